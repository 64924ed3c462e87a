"""Messages of the stream (subprotocol tamvt.v1) to bytes and back. Pure functions.

A frame, and a label map that comes back, is a binary message: a header of 16 bytes (big endian:
u8 kind, u8 flags 0, u16 0, u32 frame number, u64 timestamp in microseconds) and an encoded image.
Everything else is JSON in a text message.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from service.errors import BadMessage

SUBPROTOCOL: Final = "tamvt.v1"
HEADER: Final = struct.Struct(">BBHIQ")
FRAME: Final = 1
LABEL_MAP: Final = 2
MAX_NUMBER: Final = 2**32 - 1
MAX_TIMESTAMP: Final = 2**53 - 1  # what a number in JavaScript holds exactly
MAX_TEXT: Final = 1024  # characters of a client's text message


class Picture(NamedTuple):
    """One binary message."""

    number: int
    timestamp_us: int
    image: bytes


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has the masks up to this frame."""

    frame: int


@dataclass(frozen=True, slots=True)
class End:
    """The client sends no more frames."""


ClientMessage = Picture | Ack | End


def write_picture(picture: Picture, *, kind: int) -> bytes:
    """The binary message of a frame (kind FRAME) or a label map (kind LABEL_MAP)."""
    return HEADER.pack(kind, 0, 0, picture.number, picture.timestamp_us) + picture.image


def read_picture(data: bytes, *, kind: int) -> Picture:
    """The frame or label map in a binary message; BadMessage where there is none."""
    if len(data) < HEADER.size:
        raise BadMessage(f"a binary message of {len(data)} bytes; its header alone takes 16")
    found, flags, zero, number, timestamp_us = HEADER.unpack_from(data)
    if found != kind:
        raise BadMessage(f"a binary message of kind {found}; kind {kind} is read here")
    if flags or zero:
        raise BadMessage("flags and the two bytes after them are 0 in this version")
    if timestamp_us > MAX_TIMESTAMP:
        raise BadMessage("a timestamp is below 2^53 microseconds")
    return Picture(number, timestamp_us, data[HEADER.size :])


def read_client_message(message: bytes | str) -> ClientMessage:
    """What a client says; BadMessage where it makes no sense."""
    if isinstance(message, bytes):
        return read_picture(message, kind=FRAME)
    if len(message) > MAX_TEXT:
        raise BadMessage(f"a text message of more than {MAX_TEXT} characters")
    match _object(message):
        case {"type": "ack", "frame": int(frame), **rest} if not rest and _is_number(frame):
            return Ack(frame)
        case {"type": "end", **rest} if not rest:
            return End()
    raise BadMessage(
        'a text message is {"type": "ack", "frame": n} or {"type": "end"}; frames are binary'
    )


def write_ack(frame: int) -> str:
    """The client's word that it has the masks up to this frame."""
    return _text("ack", frame=frame)


def write_end() -> str:
    """The client's word that it sends no more frames."""
    return _text("end")


def write_ready(*, next_frame: int, credits: int | None) -> str:
    """The service's first word: `credits` frames may be unanswered; None: no count is kept."""
    return _text("ready", next_frame=next_frame, credits=credits)


def write_masks(
    *,
    frame: int,
    timestamp: int | None,
    objects: Sequence[Mapping[str, object]],
    timing: Mapping[str, float],
) -> str:
    """One frame's masks; `timestamp` is the client's own, None where they are replayed."""
    return _text("masks", frame=frame, timestamp=timestamp, objects=objects, timing=timing)


def write_dropped(frames: Sequence[int]) -> str:
    """The frames that were passed over."""
    return _text("dropped", frames=list(frames))


def write_error(problem: Mapping[str, object]) -> str:
    """A problem, after which the connection is closed."""
    return _text("error", problem=problem)


def write_bye(*, reason: str, resume: bool) -> str:
    """The service's last word: whether the client is to connect again."""
    return _text("bye", reason=reason, resume=resume)


def _text(kind: str, **members: object) -> str:
    content = {"type": kind, **members}
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _object(message: str) -> dict[str, Any]:
    try:
        content = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise BadMessage("a text message that is no JSON; frames are binary") from error
    if not isinstance(content, dict):
        raise BadMessage("a text message that is no JSON object")
    return content


def _is_number(value: int) -> bool:
    return not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
