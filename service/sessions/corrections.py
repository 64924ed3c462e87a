"""Objects that a person corrects, adds or removes at the newest frame.

Letters: O objects, H and W the frame's size, h and w the model's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model.core import memory as rules
from model.core.masks import pack_soft_masks
from service.access.admission import Reservation
from service.errors import Conflict, CorruptSession, LastObject, TooManyCorrections, UnknownObject
from service.server.workers import Workers
from service.sessions.annotations import (
    MASK_BYTES,
    Annotation,
    GivenObjects,
    check_count,
    read_annotation,
)
from service.sessions.clips import decode_masks
from service.sessions.frames import Limits
from service.sessions.snapshots import change_newest
from service.store.records import (
    EncodedEntry,
    FrameMasks,
    Session,
    entry_field,
    name_frame_field,
)
from service.store.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class Corrected:
    """The outcome of a correction: the session, the masks of its newest frame, and remarks."""

    session: Session
    masks: FrameMasks
    notes: tuple[str, ...]


async def correct(
    session: Session,
    given: Annotation,
    *,
    frame: int | None,
    store: SessionStore,
    workers: Workers,
    limits: Limits,
    reservation: Reservation,
) -> Corrected:
    """Commit the given masks for the session's newest frame; new objects are added.

    The other objects keep what was predicted. The frame is pinned in the memory; with the gate,
    it does not know those that are lost in it. Older entries in which a corrected object was
    predicted know it no longer.

    Raises:
        Conflict: another process changed the session, or `frame` is not its newest one.
        TooManyObjects, and what `service.sessions.annotations` raises.
        TooManyCorrections: all that is pinned must stay.
    """
    _check_newest(session, frame)
    newest = session.newest
    (masks,) = await store.masks(session.session_id, newest, newest)
    (entry,) = await store.entries(session, [name_frame_field(newest, session.memory)])
    height, width = session.frame_size
    with reservation.count(height * width * MASK_BYTES):
        objects = await workers.start(
            read_annotation,
            given,
            frame_size=session.frame_size,
            model_size=session.model_size,
            limits=limits.image,
            max_objects=limits.objects,
        )
    after = _with_objects(session, objects, limits, masks=masks)
    corrected, rewritten = await workers.start(_encode_correction, masks, entry, objects, after)
    # What is replaced is kept once, so that the correction can be undone.
    first = next((one for one in session.snapshots if one.name == entry_field(newest)), None)
    committed = await store.append(
        session,
        after,
        masks=[corrected],
        entries={entry_field(newest, after.version): rewritten},
        replaced=masks if first is not None and not first.corrected else None,
    )
    return Corrected(committed, corrected, objects.notes)


def remove_object(session: Session, object_id: int) -> Session:
    """Return the session without the object; raise UnknownObject or LastObject."""
    if object_id not in session.object_ids:
        raise UnknownObject(f"the session tracks no object {object_id}")
    left = tuple(known for known in session.object_ids if known != object_id)
    if not left:
        raise LastObject(f"object {object_id} is the session's last one: delete the session")
    memory = session.memory.forget(object_id)
    after = session.advanced(memory=memory, next_frame=session.next_frame)
    after = replace(after, object_ids=left)
    return replace(after, snapshots=change_newest(session, after, corrected=False))


def _check_newest(session: Session, frame: int | None) -> None:
    if frame is not None and frame != session.newest:
        raise Conflict(
            f"the newest frame is {session.newest}, not {frame}", expected=session.next_frame
        )


def _with_objects(
    session: Session, given: GivenObjects, limits: Limits, *, masks: FrameMasks
) -> Session:
    """Return the session whose newest entry knows the given objects and is pinned."""
    object_ids = tuple(sorted({*session.object_ids, *given.object_ids}))
    check_count(object_ids, max_objects=limits.objects)
    revision = session.version + 1
    lost: set[int] = set()  # with the gate, the memory leaves them out
    if session.memory_gate:
        lost = {item.object_id for item in masks.objects if item.state == "lost"}
    known = [each for each in object_ids if each in given.object_ids or each not in lost]
    try:
        memory = session.memory.correct(
            session.newest, known, given=given.object_ids, revision=revision
        )
    except rules.MemoryFull as error:
        raise TooManyCorrections(f"the correction cannot be kept: {error}") from error
    labels = {**session.labels, **given.labels}
    after = session.advanced(memory=memory, next_frame=session.next_frame)
    after = replace(after, object_ids=object_ids, labels=labels)
    return replace(after, snapshots=change_newest(session, after, corrected=True))


def _encode_correction(
    masks: FrameMasks, entry: EncodedEntry, given: GivenObjects, session: Session
) -> tuple[FrameMasks, EncodedEntry]:
    """Return the masks and the entry of all objects: as given, else as predicted."""
    objects = {item.object_id: item for item in masks.objects}
    objects.update({item.object_id: item for item in given.masks})
    soft = decode_masks(entry, session)
    soft.update(zip(given.object_ids, given.soft, strict=True))
    try:
        rows = np.stack([soft[object_id] for object_id in session.object_ids])
    except KeyError as error:
        raise CorruptSession(session.session_id, f"the newest entry lacks {error}") from error
    return (
        replace(masks, objects=tuple(objects[object_id] for object_id in sorted(objects))),
        EncodedEntry(entry.frame, pack_soft_masks(rows), session.object_ids),
    )
