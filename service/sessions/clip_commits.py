"""What is left of a clip until it is committed, and a session after several: pure functions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from model.core.memory import Memory
from service.sessions.clips import EncodedClip, Outcome, drop_masks
from service.sessions.snapshots import SnapshotPolicy, add_clips
from service.store.commits import name_snapshot_fields
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    Session,
    SnapshotContents,
    entry_field,
    name_state_field,
)

log = logging.getLogger(__name__)


class CommitPolicy(Enum):
    """When the clips of a pipeline are committed; what is left at its end is committed then."""

    EACH_CLIP = "each clip"  # a stream's, before it is answered
    ALL_AT_ONCE = "all at once"  # an append's, after the last of them: all or nothing
    AT_THE_END = "at the end"  # answered before, and committed whatever ends the pipeline


@dataclass(frozen=True, slots=True)
class PackedClip:
    """A clip that is encoded, without its pixels: what a commit needs of it."""

    first: int
    last: int
    after: Memory
    masks: tuple[FrameMasks, ...]  # with those of frames that were passed over before it
    entry: EncodedEntry | None
    state: bytes | None
    weights_sha256: str
    runtime: str
    state_rebuilt: bool


def pack_clip(
    outcome: Outcome, encoded: EncodedClip, session: Session, *, next_frame: int
) -> PackedClip:
    """Return what a commit needs of a clip before which frame `next_frame` was due."""
    step = outcome.step
    return PackedClip(
        first=step.first,
        last=step.last,
        after=outcome.after,
        masks=(*drop_masks(session, range(next_frame, step.first)), *encoded.masks),
        entry=encoded.entry,
        state=encoded.state,
        weights_sha256=outcome.weights_sha256,
        runtime=outcome.runtime,
        state_rebuilt=outcome.state_rebuilt,
    )


def keep_needed(clips: Sequence[PackedClip]) -> list[PackedClip]:
    """Return clips that are committed together, with the entries that the last memory needs only.

    An entry that a memory has evicted never returns to it.
    """
    *older, newest = clips
    needed = name_snapshot_fields(newest.last, SnapshotContents((), newest.after))
    kept = [
        clip
        if clip.entry is None and clip.state is None
        else replace(
            clip, state=None, entry=clip.entry if entry_field(clip.last) in needed else None
        )
        for clip in older
    ]
    return [*kept, newest]


def advance_session(
    before: Session,
    clips: Sequence[PackedClip],
    snapshots: SnapshotPolicy,
    *,
    policy: CommitPolicy,
    stateful: bool,
) -> Session:
    """Return the session after these clips.

    There is a snapshot after each, or after the last one where only that may be gone back to.
    """
    last = clips[-1]
    ends = clips[-1:] if policy is CommitPolicy.AT_THE_END else clips  # decision 82
    after = before.advanced(
        memory=last.after,
        next_frame=last.last + 1,
        snapshots=add_clips(
            before, [(one.last, one.after) for one in ends], snapshots, stateful=stateful
        ),
        weights_sha256=last.weights_sha256,
        runtime=last.runtime,
        state=name_state_field(last.last) if stateful else None,
    )
    # That the first clip of a session finds no state is as it should be.
    rebuilt = [one.first for one in clips if one.state_rebuilt and before.newest > 0]
    if rebuilt:
        log.warning("the state of session %s was made anew", before.session_id)
        after = replace(after, state_rebuilt_at=rebuilt[-1])
    return after
