"""Messages of the stream (subprotocol tamvt.v1) to bytes and back. Pure functions.

A frame, and a label map that comes back, is a binary message: a header of 16 bytes (big endian:
u8 kind, u8 flags, u16 0, u32 frame number, u64 timestamp in microseconds) and an encoded image.
Everything else is JSON in a text message.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from tamvt_client.messages import SERVICE_MESSAGE, ServiceMessage

SUBPROTOCOL: Final = "tamvt.v1"
HEADER: Final = struct.Struct(">BBHIQ")
FRAME: Final = 1
LABEL_MAP: Final = 2
# Flags of a frame; those of a label map are 0.
RESENT: Final = 1  # its masks came on an earlier connection: it is processed in the same clip
CLIP_END: Final = 2  # and was the last one of its clip
FRAME_FLAGS: Final = (0, RESENT, RESENT | CLIP_END)
MAX_NUMBER: Final = 2**32 - 1
MAX_TIMESTAMP: Final = 2**53 - 1  # what a number in JavaScript holds exactly
MAX_TEXT: Final = 1024  # characters of a client's text message


class WireError(ValueError):
    """A message that is not of this protocol; the text says why."""


class ImageMessage(NamedTuple):
    """One binary message: a frame, or a label map."""

    number: int
    timestamp_us: int
    image: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Ack:
    """The client has the masks up to this frame."""

    frame: int


@dataclass(frozen=True, slots=True)
class End:
    """The client sends no more frames."""


ClientMessage = ImageMessage | Ack | End


def write_image(message: ImageMessage, *, kind: int) -> bytes:
    """Return the binary message of a frame (kind FRAME) or a label map (kind LABEL_MAP)."""
    header = HEADER.pack(kind, message.flags, 0, message.number, message.timestamp_us)
    return header + message.image


def read_image(data: bytes, *, kind: int) -> ImageMessage:
    """Return the frame or label map in a binary message; WireError where there is none."""
    if len(data) < HEADER.size:
        raise WireError(f"a binary message of {len(data)} bytes; its header alone takes 16")
    found, flags, zero, number, timestamp_us = HEADER.unpack_from(data)
    if found != kind:
        raise WireError(f"a binary message of kind {found}; kind {kind} is read here")
    if zero or flags not in (FRAME_FLAGS if kind == FRAME else (0,)):
        raise WireError("flags are those of docs/stream.md, and the two bytes after them 0")
    if timestamp_us > MAX_TIMESTAMP:
        raise WireError("a timestamp is below 2^53 microseconds")
    return ImageMessage(number, timestamp_us, data[HEADER.size :], flags)


def read_client_message(message: bytes | str) -> ClientMessage:
    """Return what a client says; WireError where it makes no sense."""
    if isinstance(message, bytes):
        return read_image(message, kind=FRAME)
    if len(message) > MAX_TEXT:
        raise WireError(f"a text message of more than {MAX_TEXT} characters")
    match _object(message):
        case {"type": "ack", "frame": int(frame), **rest} if not rest and _is_number(frame):
            return Ack(frame)
        case {"type": "end", **rest} if not rest:
            return End()
    raise WireError(
        'a text message is {"type": "ack", "frame": n} or {"type": "end"}; frames are binary'
    )


def write_ack(frame: int) -> str:
    """Return the client's word that it has the masks up to this frame."""
    return _text("ack", frame=frame)


def write_end() -> str:
    """Return the client's word that it sends no more frames."""
    return _text("end")


def write_ready(*, next_frame: int, credits: int | None) -> str:
    """Return the service's first message: `credits` frames may be unanswered; None: no limit."""
    return _service_text("ready", next_frame=next_frame, credits=credits)


def write_masks(
    *,
    frame: int,
    timestamp: int | None,
    objects: Sequence[Mapping[str, object]],
    timing: Mapping[str, float],
    durable: int | None = None,
    clip: tuple[int, int] | None = None,
) -> str:
    """Return one frame's masks; `timestamp` is the client's own, None where they are replayed.

    `durable` is the newest committed frame, and `clip` the frame's own, where that is told.
    """
    told = {} if durable is None else {"durable": durable, "clip": clip}
    members = {"frame": frame, "timestamp": timestamp, "objects": objects, "timing": timing}
    return _service_text("masks", **members, **told)


def write_dropped(frames: Sequence[int]) -> str:
    """Return the message that these frames were passed over."""
    return _service_text("dropped", frames=list(frames))


def write_durable(frame: int) -> str:
    """Return the message that the frames up to this one are committed."""
    return _service_text("durable", frame=frame)


def write_stats(
    *, frames_per_s: float, latency_ms: Mapping[str, float], dropped: int, queue: int
) -> str:
    """Return how a stream does, in frames, frames a second and milliseconds by percentile."""
    return _service_text(
        "stats", frames_per_s=frames_per_s, latency_ms=latency_ms, dropped=dropped, queue=queue
    )


def write_error(problem: Mapping[str, object]) -> str:
    """Return a problem as a message, after which the connection is closed."""
    return _service_text("error", problem=problem)


def write_bye(*, reason: str, resume: bool) -> str:
    """Return the service's last message: whether the client is to connect again."""
    return _service_text("bye", reason=reason, resume=resume)


def read_service_message(message: str) -> ServiceMessage | None:
    """Return what the service says, None for a kind that is not known; WireError for no message."""
    try:
        return SERVICE_MESSAGE.validate_json(message)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "union_tag_invalid":
            return None
        where = ".".join(map(str, first["loc"]))
        raise WireError(f"a message that makes no sense: {where} {first['msg']}") from error


def _service_text(kind: str, **members: object) -> str:
    message = SERVICE_MESSAGE.validate_python({"type": kind, **members})
    return message.to_json().decode()


def _text(kind: str, **members: object) -> str:
    return json.dumps({"type": kind, **members}, separators=(",", ":"))


def _object(message: str) -> dict[str, Any]:
    try:
        content = json.loads(
            message, object_pairs_hook=_read_object, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise WireError("a text message that is no JSON; frames are binary") from error
    if not isinstance(content, dict):
        raise WireError("a text message that is no JSON object")
    return content


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is given twice: either value may be meant")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _is_number(value: int) -> bool:
    return not isinstance(value, bool) and 0 <= value <= MAX_NUMBER
