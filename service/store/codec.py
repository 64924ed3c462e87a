"""The store's records as bytes and back: pure functions.

Every record is sealed with a digest over the session's id, the record's name and its bytes
(decision 12). So damage, or a record of another session or frame, is noticed before it is used.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields as dataclass_fields
from dataclasses import replace
from datetime import datetime
from typing import Any

from model.core.memory import Memory
from service.errors import CorruptSession
from service.store.records import (
    ANY_TENANT,
    EncodedEntry,
    FrameMasks,
    ObjectMask,
    Session,
    Snapshot,
    SnapshotContents,
)

FORMAT = 3
BEFORE_TENANTS = 2  # still read: the session is then any tenant's who knows its id
SEAL_BYTES = 16
SESSION_MEMBERS = {member.name for member in dataclass_fields(Session)}
LENGTHS = struct.Struct(">IIB")  # bytes of the frame, bytes of the masks, objects


def seal(session_id: str, name: str, payload: bytes) -> bytes:
    """Return the payload behind a digest that ties it to its session and name."""
    return _digest(session_id, name, payload) + payload


def unseal(session_id: str, name: str, sealed: bytes) -> bytes:
    """Return the payload; raise CorruptSession unless it was sealed under this name."""
    payload = sealed[SEAL_BYTES:]
    if sealed[:SEAL_BYTES] != _digest(session_id, name, payload):
        raise CorruptSession(session_id, f"{name} fails its digest")
    return payload


def pack_session(session: Session) -> bytes:
    """Return the sealed session, without `expires_at`: Redis keeps that time."""
    fields = {
        "format": FORMAT,
        "tenant": session.tenant,
        "model": session.model,
        "weights_sha256": session.weights_sha256,
        "runtime": session.runtime,
        "frame_size": session.frame_size,
        "model_size": session.model_size,
        "object_ids": session.object_ids,
        "labels": sorted(session.labels.items()),
        "clip_length": session.clip_length,
        "memory_size": session.memory_size,
        "memory_gate": session.memory_gate,
        "memory": session.memory.to_json(),
        "next_frame": session.next_frame,
        "version": session.version,
        "kept_from": session.kept_from,
        "state": session.state,
        "snapshots": [(s.frame, s.revision, s.corrected, s.superseded) for s in session.snapshots],
    }
    if session.state_rebuilt_at is not None:
        fields["state_rebuilt_at"] = session.state_rebuilt_at
    return seal(session.session_id, "session", _json(fields))


def unpack_session(session_id: str, sealed: bytes, *, expires_at: datetime) -> Session:
    """Return the session.

    Raise CorruptSession for damage, invalid slots or ages, or an unknown format. Members that are
    not known here are ignored: a later version may write more of them (decision 58).
    """
    payload = unseal(session_id, "session", sealed)
    with _parsing(session_id, "session"):
        fields = json.loads(payload)
        if fields.pop("format") not in (FORMAT, BEFORE_TENANTS):
            raise ValueError("unknown format")
        history = fields.get("history", ())
        fields = {"tenant": ANY_TENANT} | {
            name: fields[name] for name in SESSION_MEMBERS & fields.keys()
        }
        for name in ("frame_size", "model_size", "object_ids"):
            fields[name] = tuple(fields[name])
        fields["labels"] = dict(fields["labels"])
        fields["memory"] = Memory.from_json(fields["memory"])
        snapshots = fields.get("snapshots", ())
        fields["snapshots"] = tuple(Snapshot(*members[:4]) for members in snapshots)
        session = Session(session_id=session_id, expires_at=expires_at, **fields)
        before = session.snapshots or _snapshots_of_before(session, history)
        return replace(session, snapshots=before)


def _snapshots_of_before(
    session: Session, history: Sequence[Sequence[Any]]
) -> tuple[Snapshot, ...]:
    """Return the snapshots of a session in format 2; their contents are not yet records."""
    snapshots = [
        Snapshot(
            frame,
            corrected=corrected,
            superseded=corrected,
            contents=SnapshotContents(tuple(object_ids), Memory.from_json(memory)),
        )
        for frame, object_ids, memory, corrected in history
    ]
    now = session.contents
    if snapshots and snapshots[-1].contents != now:  # it was changed by hand
        snapshots[-1] = replace(snapshots[-1], superseded=True)
        snapshots.append(Snapshot(session.newest, session.version, contents=now))
    return tuple(snapshots)


def pack_snapshot(session_id: str, snapshot: Snapshot) -> bytes:
    """Return the sealed contents of a snapshot, which it must have."""
    contents = snapshot.contents
    assert contents is not None, "a snapshot is stored once, while it has its contents"
    members = {
        "object_ids": contents.object_ids,
        "memory": contents.memory.to_json(),
        "state": contents.state,
    }
    return seal(session_id, f"snapshot {snapshot.name}", _json(members))


def unpack_snapshot(session_id: str, name: str, sealed: bytes) -> SnapshotContents:
    """Return the contents; raise CorruptSession for damage."""
    payload = unseal(session_id, f"snapshot {name}", sealed)
    with _parsing(session_id, f"snapshot {name}"):
        members = json.loads(payload)
        return SnapshotContents(
            tuple(members["object_ids"]), Memory.from_json(members["memory"]), members["state"]
        )


def pack_masks(session_id: str, masks: FrameMasks) -> bytes:
    """Return the sealed masks of one frame."""
    objects = [
        (o.object_id, o.counts, o.area, o.bbox, o.confidence, o.state) for o in masks.objects
    ]
    payload = _json([*masks.clip, masks.digest, objects])
    return seal(session_id, f"masks of frame {masks.frame}", payload)


def unpack_masks(session_id: str, frame: int, sealed: bytes) -> FrameMasks:
    """Return the masks of one frame; raise CorruptSession for damage."""
    name = f"masks of frame {frame}"
    payload = unseal(session_id, name, sealed)
    with _parsing(session_id, name):
        first, last, digest, objects = json.loads(payload)
        return FrameMasks(
            frame=frame,
            clip=(first, last),
            digest=digest,
            objects=tuple(
                ObjectMask(object_id, counts, area, tuple(bbox), confidence, state)
                for object_id, counts, area, bbox, confidence, state in objects
            ),
        )


def unpack_page(session_id: str, page: Iterable[tuple[int, bytes]]) -> list[FrameMasks]:
    """Return the masks of several frames; raise CorruptSession for damage."""
    return [unpack_masks(session_id, frame, sealed) for frame, sealed in page]


def pack_entry(session_id: str, field: str, entry: EncodedEntry) -> bytes:
    """Return the sealed entry: lengths, object ids, the frame's bytes, the masks' bytes."""
    lengths = LENGTHS.pack(len(entry.frame), len(entry.masks), len(entry.object_ids))
    payload = lengths + bytes(entry.object_ids) + entry.frame + entry.masks
    return seal(session_id, f"entry of frame {field}", payload)


def unpack_entry(session_id: str, field: str, sealed: bytes) -> EncodedEntry:
    """Return the entry; raise CorruptSession for damage."""
    name = f"entry of frame {field}"
    payload = unseal(session_id, name, sealed)
    with _parsing(session_id, name):
        frame_bytes, mask_bytes, objects = LENGTHS.unpack_from(payload)
        frame_at = LENGTHS.size + objects
        masks_at = frame_at + frame_bytes
        if len(payload) != masks_at + mask_bytes:
            raise ValueError("lengths do not add up")
        object_ids = tuple(payload[LENGTHS.size : frame_at])
        return EncodedEntry(payload[frame_at:masks_at], payload[masks_at:], object_ids)


def unpack_entries(
    session_id: str, fields: Sequence[str], sealed: Sequence[bytes]
) -> tuple[EncodedEntry, ...]:
    """Return several entries; raise CorruptSession for damage."""
    named = zip(fields, sealed, strict=True)
    return tuple(unpack_entry(session_id, field, data) for field, data in named)


def pack_state(session_id: str, name: str, state: bytes) -> bytes:
    """Return a model's own state, sealed; what it means is the engine's business."""
    return seal(session_id, f"state {name}", state)


def unpack_states(
    session_id: str, names: Sequence[str], sealed: Sequence[bytes | None]
) -> tuple[bytes | None, ...]:
    """Return a model's own states; None for one that is missing or damaged: it is made anew."""
    found: list[bytes | None] = []
    for name, data in zip(names, sealed, strict=True):
        try:
            found.append(unseal(session_id, f"state {name}", data or b""))
        except CorruptSession:
            found.append(None)
    return tuple(found)


def _digest(session_id: str, name: str, payload: bytes) -> bytes:
    return hashlib.sha256(f"{session_id}\0{name}\0".encode() + payload).digest()[:SEAL_BYTES]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


@contextmanager
def _parsing(session_id: str, name: str) -> Iterator[None]:
    """Raise CorruptSession where the block finds that the record cannot be read."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        RecursionError,
        struct.error,
    ) as error:
        raise CorruptSession(session_id, f"{name} cannot be read") from error
