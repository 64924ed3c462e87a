"""Snapshots of a session: which are kept, and the new session that goes on from one.

After every clip there is one. Those of the newest clips are all kept; older ones are thinned out,
evenly over the video.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from model.core.memory import Memory
from service.errors import RollbackTooFar, UnknownFrame
from service.store.commits import name_snapshot_fields
from service.store.records import FrameMasks, Session, Snapshot, SnapshotContents, name_state_field
from service.store.session_store import SessionStore, new_session_id

# Of the newest frames, whose masks a fork takes along: as they come, until one of these is reached.
MOST_MASKS: Final = 1000
MOST_MASK_BYTES: Final = 16_000_000
MASKS_AT_ONCE: Final = 50


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """Which snapshots are kept: of the `clips` newest clips, and `spread` older ones."""

    clips: int = 16
    spread: int = 64  # at least 1: the oldest one is never dropped

    def thin(self, snapshots: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
        """Return those of the snapshots, oldest first, that are kept.

        The one whose neighbors are closest together goes first, so that gaps differ by a factor of
        about two. What a person changed stays as long as anything else can go: from an earlier one
        the frames could be tracked again, but not the change made.
        """
        newest = sorted({one.frame for one in snapshots})[-1 - self.clips :]
        older = [one for one in snapshots if one.frame < newest[0]]
        ends = [one.frame for one in older] + newest[:1]
        # Where the oldest frame was corrected, what the session went on from stays as well.
        oldest = next((row for row, one in enumerate(older) if not one.superseded), 0)
        while len(older) > max(1 + oldest, self.spread):
            rows = range(oldest + 1, len(older))
            unchanged = [row for row in rows if not older[row].revision]
            closest = min(unchanged or rows, key=lambda row: ends[row + 1] - ends[row - 1])
            del older[closest], ends[closest]
        return (*older, *(one for one in snapshots if one.frame >= newest[0]))


DEFAULT_POLICY: Final = SnapshotPolicy()


def add_clips(
    session: Session,
    clips: Sequence[tuple[int, Memory]],
    policy: SnapshotPolicy,
    *,
    stateful: bool = False,
) -> tuple[Snapshot, ...]:
    """Return the snapshots after these clips, each its last frame and the memory after it.

    After each clip a `stateful` model has a state of its own.
    """
    contents = session.contents
    new = (
        Snapshot(
            last,
            contents=replace(
                contents, memory=memory, state=name_state_field(last) if stateful else ""
            ),
        )
        for last, memory in clips
    )
    return policy.thin((*session.snapshots, *new))


def change_newest(before: Session, after: Session, *, corrected: bool) -> tuple[Snapshot, ...]:
    """Return the snapshots after the newest frame was changed by hand, with new masks or without.

    The state that its clip left can be gone back to; an earlier change cannot.
    """
    newest = before.newest
    kept = (
        replace(one, superseded=True, corrected=one.corrected or corrected)
        if one.frame == newest
        else one
        for one in before.snapshots
        if one.frame != newest or not one.revision
    )
    return (*kept, Snapshot(newest, after.version, contents=after.contents))


async def fork(
    session: Session,
    at: int | None,
    *,
    store: SessionStore,
    most_masks: int = MOST_MASKS,
    most_bytes: int = MOST_MASK_BYTES,
) -> Session:
    """Start a session that continues after frame `at` of this one, or as soon before as it can.

    None continues with the session as it is. The newest masks come along, up to a number and a
    size. Conflict where another process changes the session meanwhile, what `find_origin` raises,
    and what `create` of the store raises.
    """
    origin = find_origin(session, at)
    # The oldest one comes along: the reference can always be gone back to.
    oldest = next(one for one in session.snapshots if not one.superseded)
    taken = (oldest, origin) if oldest.frame < origin.frame else (origin,)
    found = [(one, await store.snapshot(session, one)) for one in taken]
    masks: dict[int, FrameMasks] = {}
    last, end = origin.frame, max(session.kept_from, origin.frame + 1 - most_masks)
    while last >= end and most_bytes > 0:
        first = max(end, last + 1 - MASKS_AT_ONCE)
        read = await store.masks(session.session_id, first, last)
        masks |= {one.frame: one for one in read}
        most_bytes -= sum(len(mask.counts) for one in read for mask in one.objects)
        last = first - 1
    new = fork_session(session, found, kept_from=min(masks, default=origin.frame))
    for one in taken:
        masks[one.frame] = await store.snapshot_masks(session, one)
    names = sorted({contents.state for _, contents in found} - {""})
    states = await store.states(session, names)
    needed = (name_snapshot_fields(one.frame, contents) for one, contents in found)
    fields = sorted(set().union(*needed).difference(names))
    # Read last: it is answered only if nothing has changed since the session was loaded.
    entries = dict(zip(fields, await store.entries(session, fields), strict=True))
    return await store.create(
        new,
        masks=[masks[frame] for frame in sorted(masks)],
        entries=entries,
        # One that is damaged is left out: it is made anew, as in the session that is forked.
        states={name: data for name, data in zip(names, states, strict=True) if data is not None},
    )


def find_origin(session: Session, at: int | None) -> Snapshot:
    """Return the snapshot a fork begins with: the newest one that leads to frame `at`.

    At its own frame that is what the clip left, before any change by hand; later ones hold the
    change. None: the session as it is.

    Raises:
        UnknownFrame: the frame is not committed.
        RollbackTooFar: it is older than what is kept; names the oldest frame possible.
    """
    if at is None:
        return session.snapshots[-1]
    if at > session.newest:
        raise UnknownFrame(f"frame {at} is not committed; the newest one is {session.newest}")
    for one in reversed(session.snapshots):
        if (one.frame == at and not one.revision) or (one.frame < at and not one.superseded):
            return one
    raise RollbackTooFar(f"frame {at} is too old to go back to", oldest=session.snapshots[0].frame)


def fork_session(
    session: Session,
    taken: Sequence[tuple[Snapshot, SnapshotContents]],
    *,
    kept_from: int,
) -> Session:
    """Return a new session that continues after the last of these; it can be forked at each."""
    origin, contents = taken[-1]
    rebuilt = session.state_rebuilt_at
    return replace(
        session,
        session_id=new_session_id(),
        object_ids=contents.object_ids,
        memory=contents.memory,
        state=contents.state,
        next_frame=origin.frame + 1,
        state_rebuilt_at=rebuilt if rebuilt is not None and rebuilt <= origin.frame else None,
        # Versions go on, so that corrections of the two never take the same revision.
        version=session.version,
        kept_from=kept_from,
        snapshots=tuple(Snapshot(one.frame, contents=found) for one, found in taken),
        stored_bytes=0,
        reserved_bytes=0,
    )
