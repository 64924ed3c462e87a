"""What an encoded image says about itself before anything is decoded: its kind, size, completeness.

OpenCV allocates whatever size a header claims, and of what it cannot decode it says nothing but
None. So the container is walked first, in plain Python, from marker to marker.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

MAX_SEGMENTS = 10_000  # far above any real image; bounds the walk through a hostile one

MAX_SCANS = 100  # a progressive JPEG has about ten; each one costs a pass over the whole picture
MAX_PNG_PIXEL_BYTES = 8  # RGBA of 16 bits
INFLATED_BYTES = 1 << 20  # at once

# In a JPEG, 0xFF starts a marker unless 0x00 (a stuffed byte), 0xFF (fill), 0x01 or 0xD0-0xD7
# (markers without content: TEM and restarts) follow; so one search also crosses the scans.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# The chunks that a decoder must know; any other critical one (a capital first) is refused.
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_CHUNK = re.compile(rb".{4}[A-Za-z]{4}", re.DOTALL)
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PixelError(ValueError):
    """An image that cannot be used; the message says why."""


class Undecodable(PixelError):
    """Not a still JPEG, PNG or WebP, or one with damage inside."""


class Truncated(PixelError):
    """The beginning of an image whose end is missing."""


class TooLarge(PixelError):
    """An image of more bytes, or of larger dimensions, than is allowed."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image from outside may measure."""

    max_bytes: int = 8_000_000
    max_width: int = 4096
    max_height: int = 4096

    def check_size(self, height: int, width: int) -> None:
        """Raise TooLarge if a picture of this size is not allowed."""
        if height > self.max_height or width > self.max_width:
            raise TooLarge(
                f"the image is {width}x{height}; "
                f"at most {self.max_width}x{self.max_height} pixels are allowed"
            )


@dataclass(frozen=True, slots=True)
class Header:
    """The kind of an image and its size as it is stored, before EXIF orientation."""

    kind: Literal["jpeg", "png", "webp"]
    height: int
    width: int


def read_header(data: bytes, limits: ImageLimits) -> Header:
    """Return the header of a complete still image within `limits`; PixelError otherwise.

    A phone's picture may lie on its side, so either orientation of the size is accepted here;
    the decoded picture is checked again.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(f"the image has {len(data)} bytes; at most {limits.max_bytes} are allowed")
    header = _parse(data)  # decision 8
    if not header.height or not header.width:
        raise Undecodable("the image has no pixels")
    fits_lying = header.height <= limits.max_width and header.width <= limits.max_height
    if not fits_lying:
        limits.check_size(header.height, header.width)
    return header


def is_jpeg(data: bytes) -> bool:
    """Return whether the bytes begin as a JPEG does."""
    return data.startswith(b"\xff\xd8\xff")


def _parse(data: bytes) -> Header:
    if not data:
        raise Undecodable("the image is empty: it has no bytes")
    if is_jpeg(data):
        return _parse_jpeg(data)
    if data.startswith(_PNG_SIGNATURE):
        return _parse_png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _parse_webp(data)
    raise Undecodable("not an image of a supported kind (JPEG, PNG, WebP)")


def _parse_jpeg(data: bytes) -> Header:
    """Walk from marker to marker to the end of the image; a phone may append what it likes."""
    header, scans, position = None, 0, 2
    for _ in range(MAX_SEGMENTS):
        found = _JPEG_MARKER.search(data, position)
        if found is None:
            raise Truncated("the JPEG is truncated: it has no end-of-image marker")
        marker, body = data[found.end() - 1], found.end()
        if marker == _JPEG_END:
            break
        if header is None and data[position : found.start()].strip(b"\xff"):
            raise Undecodable("the JPEG has stray bytes before its picture")
        (length,) = _unpack(">H", data, body)
        if marker in _JPEG_FRAMES and header is None:
            height, width = _unpack(">HH", data, body + 3)
            header = Header(kind="jpeg", height=height, width=width)
        scans += marker == _JPEG_SCAN
        position = body + length
    else:
        raise Undecodable("the JPEG has too many segments")
    if scans > MAX_SCANS:
        raise Undecodable(f"the JPEG has {scans} scans; at most {MAX_SCANS} are decoded")
    if header is None or not scans:
        raise Undecodable("the JPEG holds no picture")
    return header


def _parse_png(data: bytes) -> Header:
    """Walk from chunk to chunk up to IEND, every checksum compared."""
    if data[12:16] != b"IHDR":
        raise Truncated("the PNG is truncated") if len(data) < 16 else Undecodable("a broken PNG")
    kinds: set[bytes] = set()
    for kind, _ in _png_chunks(data):
        if kind == b"acTL":
            raise Undecodable("an animated PNG is not one picture")
        # Decoders differ in what they take of these.
        twice = kind in kinds and kind in (b"IHDR", b"PLTE")
        late = kind == b"PLTE" and b"IDAT" in kinds
        if twice or late or (kind[:1].isupper() and kind not in _PNG_CRITICAL):
            raise Undecodable(f"the PNG has a chunk {kind.decode('latin-1')!r} out of place")
        kinds.add(kind)
    width, height = _unpack(">II", data, 16)
    return Header(kind="png", height=height, width=width)


def check_png_pixels(data: bytes, header: Header) -> None:
    """Raise Undecodable where the pixels of a PNG are no whole zlib stream; nothing is kept.

    Decoders show what they could read of a stream that ends early, or whose checksum differs.
    To be called once the size that the header claims is allowed: it bounds the work.
    """
    stream, inflated = zlib.decompressobj(), 0
    most = 2 * header.height * (MAX_PNG_PIXEL_BYTES * header.width + 1)  # twice: if interlaced
    try:
        for kind, chunk in _png_chunks(data):
            rest = chunk[8:-4] if kind == b"IDAT" else b""
            while rest and inflated <= most:
                inflated += len(stream.decompress(rest, INFLATED_BYTES))
                rest = stream.unconsumed_tail
    except zlib.error as error:
        raise Undecodable("the PNG is damaged: its pixels' checksum differs") from error
    if not stream.eof or inflated > most:
        raise Undecodable("the PNG is damaged: it holds fewer or more pixels than it says")


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the kind and the bytes of every chunk up to IEND, each checksum compared."""
    position = len(_PNG_SIGNATURE)
    for _ in range(MAX_SEGMENTS):
        length, kind = _unpack(">I4s", data, position)
        end = position + 12 + length
        (checksum,) = _unpack(">I", data, end - 4)
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise Undecodable("the PNG is damaged: a checksum differs")
        yield kind, data[position:end]
        if kind == b"IEND":
            if _PNG_CHUNK.match(data, end):
                raise Undecodable("the PNG goes on after its end")
            return
        position = end
    raise Undecodable("the PNG has too many chunks")


def bare_png(data: bytes) -> bytes:
    """Return the PNG with the chunks alone that make its picture: no profile, no text, no EXIF."""
    kept = (*_PNG_CRITICAL, b"tRNS")
    return _PNG_SIGNATURE + b"".join(chunk for kind, chunk in _png_chunks(data) if kind in kept)


def _parse_webp(data: bytes) -> Header:
    """Return the size from the first chunk: VP8X (extended), VP8L (lossless) or VP8 (lossy)."""
    (length,) = _unpack("<I", data, 4)
    if len(data) < 8 + length:
        raise Truncated(f"the WebP is truncated: it has {len(data)} bytes of {8 + length}")
    (kind,) = _unpack("4s", data, 12)
    if kind == b"VP8X":
        (flags,) = _unpack("B", data, 20)
        if flags & 0x02:
            raise Undecodable("an animated WebP is not one picture")
        low_width, high_width, low_height, high_height = _unpack("<HBHB", data, 24)
        width = 1 + low_width + (high_width << 16)
        height = 1 + low_height + (high_height << 16)
    elif kind == b"VP8L":
        (bits,) = _unpack("<I", data, 21)
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in _unpack("<HH", data, 26))
    else:
        raise Undecodable("a broken WebP")
    return Header(kind="webp", height=height, width=width)


def _unpack(layout: str, data: bytes, position: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, position)
    except struct.error as error:
        raise Truncated("the image is truncated") from error
