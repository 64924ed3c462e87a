"""Every decoder and parser of what comes from outside, with what it may raise.

`PARSERS` is the table; `attack` feeds one of them changed inputs. Input n of a seed is always the
same bytes, so that a failure is run again by its number.
"""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import cache, partial
from random import Random
from typing import Any, Final

from model.core.encoding import decode_polygons, decode_rle, encode_polygons, encode_rle
from model.core.image_headers import ImageLimits, PixelError, read_header
from model.core.masks import MaskError, pack_soft_masks, unpack_soft_masks
from model.core.memory import Memory
from service.errors import CorruptSession, Refused
from service.http.forms import PartRule, read_form
from service.http.schemas import BOX, OPTIONS
from service.http.start_body import read_shapes
from service.http.strict_json import read_json
from service.media.video_index import check_index, format_of, is_cut_off
from service.media.video_reader import open_video
from service.server.workers import Workers
from service.sessions.annotations import Annotation, read_annotation
from service.sessions.frames import make_frame_of_image
from service.store import codec
from tamvt_client import wire
from tests.fuzz import samples
from tests.fuzz.mutations import MAX_BYTES, change_bytes, change_json, change_png, change_value
from tests.fuzz.samples import SIZE

LIMITS: Final = ImageLimits(max_bytes=8_000_000, max_width=1024, max_height=1024)
DEADLINE_S: Final = 10.0  # of one input
MOST_PICTURES: Final = 20  # of one changed video
FORM_RULES: Final = {
    name: PartRule(2_000, count)
    for name, count in (("frame", 1), ("mask", 1), ("options", 1), ("frames", 3))
}

Change = Callable[[Random], bytes]
Refusals = tuple[type[Exception], ...]


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser: what makes its inputs, what reads them, and how it may refuse."""

    name: str
    change: Change
    read: Callable[[bytes], object]
    refusals: Refusals

    def input(self, seed: int, number: int) -> bytes:
        """Return the input with this number of this seed."""
        return self.change(Random(f"{seed} {self.name} {number}"))


@dataclass(slots=True)
class Tally:
    """What came of the inputs of one parser, or of one attack on the service."""

    name: str
    inputs: int = 0
    refused: int = 0
    slowest_s: float = 0.0

    def count(self, *, refused: bool, seconds: float) -> None:
        """Count one more input."""
        self.inputs += 1
        self.refused += refused
        self.slowest_s = max(self.slowest_s, seconds)

    def row(self) -> str:
        """Return the line of the table."""
        accepted = self.inputs - self.refused
        slowest = f"{1000 * self.slowest_s:.0f} ms"
        return f"| {self.name} | {self.inputs:,} | {self.refused:,} | {accepted:,} | {slowest} |"


class Fault(AssertionError):
    """A parser that raised what it must not, or took too long; carries the input."""

    def __init__(self, parser: str, number: int, data: bytes, reason: str) -> None:
        super().__init__(f"{parser}, input {number}: {reason}")
        self.parser = parser
        self.number = number
        self.data = data


def attack(parser: Parser, seed: int, tally: Tally, number: int) -> None:
    """Feed the parser one input and count it; raise Fault."""
    data = parser.input(seed, number)
    begin, cpu = time.perf_counter(), time.process_time()
    refused = False
    try:
        parser.read(data)
    except parser.refusals:
        refused = True
    except Exception as error:
        raise Fault(parser.name, number, data, f"{type(error).__name__}: {error}") from error
    seconds = time.perf_counter() - begin
    if seconds > DEADLINE_S:
        raise Fault(parser.name, number, data, f"{seconds:.1f} s")
    # A busy machine makes any input slow: the table tells processor time.
    tally.count(refused=refused, seconds=time.process_time() - cpu)


def _changed(change: Callable[..., bytes], make: Callable[[], Any], random: Random) -> bytes:
    """Return one of the samples that `make` returns, changed."""
    return change(random, make())


_of_bytes = partial(partial, _changed, change_bytes)
_of_png = partial(partial, _changed, change_png)
_of_json = partial(partial, _changed, change_json)


@cache
def _images() -> list[bytes]:
    return [*samples.jpegs(), *samples.frame_pngs(), *samples.webps(), *samples.mask_images()]


def _read_given(given: Annotation) -> object:
    return read_annotation(given, frame_size=SIZE, model_size=SIZE, limits=LIMITS, max_objects=16)


def _read_frame(data: bytes) -> object:
    return make_frame_of_image(data, LIMITS, name="frame", frame_size=SIZE, model_size=SIZE)


def _read_objects(data: bytes) -> object:
    with Workers(threads=1) as workers:
        return _read_given(asyncio.run(read_shapes(data, workers)))


def _rle(random: Random) -> bytes:
    """Return the counts of a mask, changed as text or as a list."""
    counts: object = random.choice(
        [encode_rle(mask)["counts"] for mask in _masks()] if random.random() < 0.6 else _RUNS
    )
    return json.dumps(change_value(random, counts)).encode()


_RUNS: Final = ([100, 50, SIZE[0] * SIZE[1] - 150], [SIZE[0] * SIZE[1]], [0, SIZE[0] * SIZE[1]])


@cache
def _masks() -> list[Any]:
    from tests.support import scene

    return [scene.labels(number, objects=2) == number % 3 for number in range(6)]


def _read_rle(data: bytes) -> None:
    """Decode the runs; a mask that comes out is written and read as itself."""
    mask = decode_rle({"size": list(SIZE), "counts": json.loads(data)}, SIZE)
    assert (decode_rle(dict(encode_rle(mask)), SIZE) == mask).all()


def _polygons(random: Random) -> bytes:
    polygons: Any = [
        [random.uniform(-20, 140) for _ in range(2 * random.randrange(2, 30))]
        for _ in range(random.randrange(1, 5))
    ]
    for _ in range(random.randrange(3)):
        polygons = change_value(random, polygons)
    text = json.dumps(polygons).encode()
    return text if len(text) <= MAX_BYTES else b"[]"


def _read_polygons(data: bytes) -> None:
    encode_polygons(decode_polygons(json.loads(data), SIZE))


def _stream_message(random: Random) -> bytes:
    """Return the kind of a message, text or binary, and the message."""
    if random.random() < 0.5:
        return b"t" + change_json(random, [{"type": "ack", "frame": 3}, {"type": "end"}])
    whole = wire.write_image(wire.ImageMessage(3, 5, b"image"), kind=wire.FRAME)
    return b"b" + change_bytes(random, [whole])


def _read_stream_message(data: bytes) -> None:
    text = data[:1] == b"t"
    wire.read_client_message(data[1:].decode("utf-8", "replace") if text else data[1:])


@cache
def _service_messages() -> list[Any]:
    found = {"id": 1, "rle": {"size": [2, 2], "counts": "04"}, "area": 0, "bbox": [0, 0, 0, 0]}
    known = {**found, "confidence": 0.5, "state": "visible"}
    return [
        json.loads(wire.write_ready(next_frame=3, credits=8)),
        {"type": "masks", "frame": 1, "timestamp": 5, "objects": [known], "timing": {"total": 1.5}},
        {"type": "dropped", "frames": [1, 2]},
        {"type": "bye", "reason": "replaced", "resume": False},
    ]


def _read_service_message(data: bytes) -> None:
    wire.read_service_message(data.decode("utf-8", "replace"))


def _record(random: Random) -> bytes:
    """Return the kind of a record and its payload, changed and sealed again."""
    session = samples.session()
    records = (
        (b"session", "session", codec.pack_session(session)),
        (b"masks", "masks of frame 7", codec.pack_masks("s", samples.MASKS)),
        (b"entry", "entry of frame 2", codec.pack_entry("s", "2", samples.ENTRY)),
    )
    kind, name, sealed = random.choice(records)
    payload = codec.unseal("s", name, sealed)
    as_json = kind != b"entry" and random.random() < 0.7
    changed = (
        change_json(random, [json.loads(payload)]) if as_json else change_bytes(random, [payload])
    )
    return kind + b" " + codec.seal("s", name, changed)


def _read_record(data: bytes) -> None:
    kind, _, sealed = data.partition(b" ")
    if kind == b"session":
        codec.unpack_session("s", sealed, expires_at=samples.NOW)
    elif kind == b"masks":
        codec.unpack_masks("s", 7, sealed)
    else:
        codec.unpack_entry("s", "2", sealed)


@cache
def _memories() -> list[Any]:
    memory = Memory.start(0, [3, 9], capacity=3)
    longer = memory.remember(2, [3, 9]).remember(4, [3]).remember(6, [3, 9])
    return [json.loads(each.to_json()) for each in (memory, longer, longer.forget(3))]


@cache
def _soft_masks() -> list[bytes]:
    import numpy as np

    return [
        pack_soft_masks(np.arange(count * 64, dtype=np.uint8).reshape(count, 8, 8))
        for count in (1, 3)
    ]


def _read_index(data: bytes) -> None:
    is_cut_off(io.BytesIO(data))
    if format_of(data) == "mov":
        check_index(data)


def _read_video(data: bytes) -> None:
    """Decode the first pictures as far as the index allows."""
    kind = format_of(data)
    if kind == "mov":
        check_index(data)
    with open_video(io.BytesIO(data), kind=kind or "mov", codecs={"mpeg4", "vp8"}) as video:
        video.restrict(max_pixels=2 * LIMITS.max_width * LIMITS.max_height)
        for _, picture in zip(range(MOST_PICTURES), video.pictures(), strict=False):
            picture.rgb()


def _read_parts(data: bytes) -> None:
    """Read a form that comes in pieces of 97 bytes."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 97):
            yield data[at : at + 97]

    asyncio.run(read_form(pieces(), boundary=b"frontier", rules=FORM_RULES))


PARSERS: Final = (
    Parser("mask image", _of_png(samples.mask_images), _read_given, (Refused,)),
    Parser(
        "image header",
        _of_bytes(_images),
        partial(read_header, limits=LIMITS),
        (PixelError,),
    ),
    Parser("frame: JPEG", _of_bytes(samples.jpegs), _read_frame, (Refused,)),
    Parser("frame: PNG", _of_png(samples.frame_pngs), _read_frame, (Refused,)),
    Parser("frame: WebP", _of_bytes(samples.webps), _read_frame, (Refused,)),
    Parser("RLE", _rle, _read_rle, (MaskError,)),
    Parser("polygons", _polygons, _read_polygons, (MaskError,)),
    Parser("objects (JSON)", _of_json(samples.objects), _read_objects, (Refused,)),
    Parser(
        "options (JSON)",
        _of_json(samples.options),
        partial(read_json, kind=OPTIONS, where="options"),
        (Refused,),
    ),
    Parser(
        "box (JSON)",
        _of_json(samples.boxes),
        partial(read_json, kind=BOX, where="box"),
        (Refused,),
    ),
    Parser("multipart form", _of_bytes(samples.forms), _read_parts, (Refused,)),
    Parser("stream message", _stream_message, _read_stream_message, (wire.WireError,)),
    Parser(
        "message to the client",
        _of_json(_service_messages),
        _read_service_message,
        (wire.WireError,),
    ),
    Parser("video index", _of_bytes(samples.videos), _read_index, (Refused,)),
    Parser("video", _of_bytes(samples.videos), _read_video, (Refused, MemoryError)),
    Parser("stored record", _record, _read_record, (CorruptSession,)),
    Parser("memory", _of_json(_memories), Memory.from_json, (ValueError, TypeError, KeyError)),
    Parser("soft masks", _of_bytes(_soft_masks), unpack_soft_masks, (ValueError,)),
)
