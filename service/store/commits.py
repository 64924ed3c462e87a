"""What a commit of a session writes and drops: pure functions, for the store and its script."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from model.core.memory import Memory
from service.errors import Conflict, MasksTooLarge, SessionTooLarge, UnknownSession
from service.store.codec import pack_entry, pack_masks, pack_snapshot, pack_state
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    Session,
    Snapshot,
    SnapshotContents,
    StoreLimits,
    entry_field,
    name_frame_field,
)


def name_memory_fields(memory: Memory) -> list[str]:
    """Return the fields of a memory's entries, in its order."""
    return [entry_field(entry.frame, entry.revision) for entry in memory.entries]


def name_snapshot_fields(frame: int, contents: SnapshotContents) -> list[str]:
    """Return the fields that a session needs that goes on from a snapshot at this frame.

    The frame's own is among them even if the memory does not hold it: it may be corrected.
    """
    own = (name_frame_field(frame, contents.memory), *([contents.state] if contents.state else []))
    return list(dict.fromkeys((*name_memory_fields(contents.memory), *own)))


def make_snapshot_records(session_id: str, snapshot: Snapshot) -> dict[str, bytes]:
    """Return the two records of a snapshot that is not stored yet, by field."""
    if snapshot.contents is None:
        return {}
    return {
        f"{snapshot.name}.snapshot": pack_snapshot(session_id, snapshot),
        # For the script that drops snapshots.
        f"{snapshot.name}.fields": " ".join(
            name_snapshot_fields(snapshot.frame, snapshot.contents)
        ).encode(),
    }


def seal_records(
    session: Session, entries: Mapping[str, EncodedEntry], states: Mapping[str, bytes]
) -> dict[str, bytes]:
    """Return the records of new snapshots, and those entries and states that are needed."""
    records: dict[str, bytes] = {}
    wanted = set(name_snapshot_fields(session.newest, session.contents))
    for snapshot in session.snapshots:
        if snapshot.contents is not None:
            wanted.update(name_snapshot_fields(snapshot.frame, snapshot.contents))
            records |= make_snapshot_records(session.session_id, snapshot)
    for name in wanted & entries.keys():
        records[name] = pack_entry(session.session_id, name, entries[name])
    for name in wanted & states.keys():
        records[name] = pack_state(session.session_id, name, states[name])
    return records


def seal_masks(
    session_id: str, masks: Sequence[FrameMasks], limits: StoreLimits
) -> dict[int, bytes]:
    """Return the sealed masks by frame; raise MasksTooLarge."""
    sealed = {one.frame: pack_masks(session_id, one) for one in masks}
    limit = limits.frame_masks_bytes
    for frame, data in sealed.items():
        if limit and len(data) > limit:
            raise MasksTooLarge(
                f"the masks of frame {frame} take {len(data)} bytes, and those of one frame may "
                f"take {limit}: give smoother masks, or fewer objects",
                limit=limit,
            )
    return sealed


def count_needed_bytes(
    stored: int, masks: Mapping[int, bytes], records: Mapping[str, bytes], limits: StoreLimits
) -> int:
    """Return the bytes of a session that holds these as well; raise SessionTooLarge."""
    needed = stored + sum(map(len, chain(masks.values(), records.values())))
    limit = limits.session_bytes
    if limit and needed > limit:
        raise SessionTooLarge(
            f"the session would take {needed} bytes, and may take {limit}: a fork of it goes on "
            "with its newest frames only",
            limit=limit,
        )
    return needed


def yield_dropped_snapshots(
    before: Session | None, after: Session
) -> Iterator[tuple[str, str, str]]:
    """Yield each snapshot to be dropped, oldest first, with its neighbors: one kept, the next.

    An entry is in a row of snapshots, from when it was remembered until it was evicted. So one
    that neither neighbor has is in no other snapshot (decision 63).
    """
    kept = {one.name for one in after.snapshots}
    every = {one.name: one for one in (*(before.snapshots if before else ()), *after.snapshots)}
    names = sorted(every, key=lambda name: (every[name].frame, every[name].revision))
    earlier = ""
    for name, later in zip(names, [*names, ""][1:], strict=True):
        if name in kept:
            earlier = name
        else:
            yield name, earlier, later


def pruned_frames(before: Session | None, after: Session) -> list[int]:
    """Return the frames whose masks are kept no longer: a snapshot's frame keeps its own."""
    if before is None:
        return []
    needed = {one.frame for one in after.snapshots}
    dropped = (one.frame for one in before.snapshots if one.frame < before.kept_from)
    pruned = {*range(before.kept_from, after.kept_from), *dropped}
    return sorted(pruned - needed)


def check_status(status: bytes, session_id: str, *, expected: int) -> None:
    """Raise what a script's status says: UnknownSession, Conflict, or none."""
    if status == b"replaced":
        raise Conflict("another stream took the session over", expected=expected)
    if status == b"unknown":
        raise UnknownSession(session_id)
    if status == b"conflict":
        message = f"the session was changed meanwhile and expects frame {expected}"
        raise Conflict(message, expected=expected)
