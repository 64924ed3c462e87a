"""What the store holds of a session, and its bytes: values to bytes and back, both ways pure.

Every record is sealed with a digest over the session's id, the record's place and its bytes, so
that damage, or a record of another session or frame, is noticed before it is used.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, NamedTuple, TypeVar

from model.core.memory import Memory
from service.errors import CorruptSession

FORMAT = 2
SEAL_BYTES = 16
NO_DIGEST = ""  # of a dropped frame: its bytes are not known
LENGTHS = struct.Struct(">IIB")  # bytes of the frame, bytes of the masks, objects

T = TypeVar("T")
State = Literal["visible", "lost", "human", "dropped"]


@dataclass(frozen=True, slots=True)
class ObjectMask:
    """One object's mask in one frame, at the frame's size."""

    object_id: int
    counts: str  # COCO's compressed run-length encoding; its size is the session's frame_size
    area: int
    bbox: tuple[int, int, int, int]  # x, y, width, height
    confidence: float
    state: State


@dataclass(frozen=True, slots=True)
class FrameMasks:
    """All masks of one frame, with the clip it was processed in and the digest of its bytes."""

    frame: int
    clip: tuple[int, int]  # first and last frame number
    digest: str  # SHA-256 (hex) of the frame's bytes as they came; NO_DIGEST if it was dropped
    objects: tuple[ObjectMask, ...]

    @property
    def dropped(self) -> bool:
        """Whether the frame was passed over, so that it has no masks."""
        return self.digest == NO_DIGEST


class EncodedEntry(NamedTuple):
    """A frame with its masks as the memory keeps them: small, lossless, ready to be decoded."""

    frame: bytes  # model.core.pixels.keep_frame
    masks: bytes  # model.core.masks.pack_soft_masks, in the order of object_ids
    object_ids: tuple[int, ...]  # whose masks these are, those that were removed since included


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session as it was when the clip that ends with `frame` was committed."""

    frame: int
    object_ids: tuple[int, ...]
    memory: Memory
    corrected: bool = False  # the frame's masks were changed since: the first ones are kept aside


@dataclass(frozen=True, slots=True)
class Session:
    """One session as it is committed. A change makes a new value with the next version."""

    session_id: str
    model: str
    weights_sha256: str  # of the model that made the newest masks
    frame_size: tuple[int, int]  # height, width
    model_size: tuple[int, int]  # height, width
    object_ids: tuple[int, ...]
    labels: Mapping[int, str]
    clip_length: int
    memory_size: int
    memory: Memory
    next_frame: int
    version: int = 1  # fencing: one more with each commit
    memory_gate: bool = False  # no entry is written for an object that is lost
    kept_from: int = 0  # the oldest frame whose masks are kept
    history: tuple[Snapshot, ...] = ()  # what can be forked, oldest first
    expires_at: datetime = field(default=datetime.fromtimestamp(0, UTC), compare=False)

    @property
    def newest(self) -> int:
        """The number of the newest frame."""
        return self.next_frame - 1

    def advanced(
        self,
        *,
        memory: Memory,
        next_frame: int,
        history: tuple[Snapshot, ...] | None = None,
        weights_sha256: str | None = None,
    ) -> Session:
        """The session after one more commit; `None` leaves what it has."""
        return replace(
            self,
            memory=memory,
            next_frame=next_frame,
            version=self.version + 1,
            history=self.history if history is None else history,
            weights_sha256=weights_sha256 or self.weights_sha256,
        )


def seal(session_id: str, place: str, payload: bytes) -> bytes:
    """The payload behind a digest that ties it to its session and place."""
    return _digest(session_id, place, payload) + payload


def unseal(session_id: str, place: str, sealed: bytes) -> bytes:
    """The payload; CorruptSession if a bit of it, or its place, is not what was sealed."""
    payload = sealed[SEAL_BYTES:]
    if sealed[:SEAL_BYTES] != _digest(session_id, place, payload):
        raise CorruptSession(session_id, f"{place} fails its digest")
    return payload


def pack_session(session: Session) -> bytes:
    """The sealed session, without `expires_at`, which is Redis's to know."""
    fields = {
        "format": FORMAT,
        "model": session.model,
        "weights_sha256": session.weights_sha256,
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
        "history": [
            (past.frame, past.object_ids, past.memory.to_json(), past.corrected)
            for past in session.history
        ],
    }
    return seal(session.session_id, "session", _json(fields))


def unpack_session(session_id: str, sealed: bytes, *, expires_at: datetime) -> Session:
    """The session; CorruptSession for damage, invalid slots or ages, or an unknown format."""
    payload = unseal(session_id, "session", sealed)
    return _parsed(session_id, "session", lambda: _session(session_id, payload, expires_at))


def pack_masks(session_id: str, masks: FrameMasks) -> bytes:
    """The sealed masks of one frame."""
    objects = [
        (o.object_id, o.counts, o.area, o.bbox, o.confidence, o.state) for o in masks.objects
    ]
    payload = _json([*masks.clip, masks.digest, objects])
    return seal(session_id, f"masks of frame {masks.frame}", payload)


def unpack_masks(session_id: str, frame: int, sealed: bytes) -> FrameMasks:
    """The masks of one frame, or CorruptSession."""
    place = f"masks of frame {frame}"
    payload = unseal(session_id, place, sealed)
    return _parsed(session_id, place, lambda: _frame_masks(frame, payload))


def entry_field(frame: int, revision: int = 0) -> str:
    """Where an entry is stored: corrected ones stand beside what they replace."""
    return f"{frame}.{revision}" if revision else str(frame)


def pack_entry(session_id: str, field_name: str, entry: EncodedEntry) -> bytes:
    """The sealed entry: lengths, object ids, the frame's bytes, the masks' bytes."""
    lengths = LENGTHS.pack(len(entry.frame), len(entry.masks), len(entry.object_ids))
    payload = lengths + bytes(entry.object_ids) + entry.frame + entry.masks
    return seal(session_id, f"entry of frame {field_name}", payload)


def unpack_entry(session_id: str, field_name: str, sealed: bytes) -> EncodedEntry:
    """The entry, or CorruptSession."""
    place = f"entry of frame {field_name}"
    payload = unseal(session_id, place, sealed)
    return _parsed(session_id, place, lambda: _entry(payload))


def _digest(session_id: str, place: str, payload: bytes) -> bytes:
    return hashlib.sha256(f"{session_id}\0{place}\0".encode() + payload).digest()[:SEAL_BYTES]


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def _parsed(session_id: str, place: str, parse: Callable[[], T]) -> T:
    try:
        return parse()
    except (ValueError, TypeError, KeyError, struct.error) as error:
        raise CorruptSession(session_id, f"{place} cannot be read") from error


def _session(session_id: str, payload: bytes, expires_at: datetime) -> Session:
    fields = json.loads(payload)
    if fields.pop("format") != FORMAT:
        raise ValueError("unknown format")
    for name in ("frame_size", "model_size", "object_ids"):
        fields[name] = tuple(fields[name])
    fields["labels"] = dict(fields["labels"])
    fields["memory"] = Memory.from_json(fields["memory"])
    fields["history"] = tuple(
        Snapshot(frame, tuple(object_ids), _past_memory(memory), corrected)
        for frame, object_ids, memory, corrected in fields["history"]
    )
    return Session(session_id=session_id, expires_at=expires_at, **fields)


# Each request reads the same history again, but for its newest part.
_past_memory = lru_cache(maxsize=4096)(Memory.from_json)


def _frame_masks(frame: int, payload: bytes) -> FrameMasks:
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


def _entry(payload: bytes) -> EncodedEntry:
    frame_bytes, mask_bytes, objects = LENGTHS.unpack_from(payload)
    ids, frame = LENGTHS.size + objects, LENGTHS.size + objects + frame_bytes
    if len(payload) != frame + mask_bytes:
        raise ValueError("lengths do not add up")
    object_ids = tuple(payload[LENGTHS.size : ids])
    return EncodedEntry(payload[ids:frame], payload[frame:], object_ids)
