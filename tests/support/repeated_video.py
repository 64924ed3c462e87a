"""A MOV that is small, and long: its table names one and the same JPEG again and again."""

from __future__ import annotations

import struct


def box(kind: bytes, *content: bytes) -> bytes:
    """Return a box of an MP4 or MOV."""
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def repeated_jpeg(jpeg: bytes, *, count: int, height: int, width: int) -> bytes:
    """Return a MOV of `count` pictures at 24 a second, four bytes for each."""
    start = box(b"ftyp", b"qt  ", bytes(4), b"qt  ")
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    sample = struct.pack(
        ">6xH16xHHIII H32shh", 1, width, height, 72 << 16, 72 << 16, 0, 1, bytes(32), 24, -1
    )
    table = box(
        b"stbl",
        box(b"stsd", struct.pack(">II", 0, 1), box(b"jpeg", sample)),
        box(b"stts", struct.pack(">IIII", 0, 1, count, 1)),
        box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        box(b"stsz", struct.pack(">III", 0, len(jpeg), count)),
        box(b"stco", struct.pack(">II", 0, count), struct.pack(">I", len(start) + 8) * count),
    )
    track = box(
        b"trak",
        box(
            b"tkhd",
            struct.pack(">IIIIIIQHHHH", 7, 0, 0, 1, 0, count, 0, 0, 0, 0, 0),
            matrix,
            struct.pack(">II", width << 16, height << 16),
        ),
        box(
            b"mdia",
            box(b"mdhd", struct.pack(">IIIIIHH", 0, 0, 0, 24, count, 0, 0)),
            box(b"hdlr", bytes(4), b"mhlrvide", bytes(13)),
            box(b"minf", box(b"vmhd", bytes(12)), table),
        ),
    )
    head = struct.pack(">IIIIIIHH8x", 0, 0, 0, 24, count, 1 << 16, 0x100, 0)
    movie = box(b"moov", box(b"mvhd", head, matrix, bytes(24), struct.pack(">I", 2)), track)
    return start + box(b"mdat", jpeg) + movie
