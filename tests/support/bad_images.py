"""Images that the service refuses, or only just accepts."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from model.core.palette import write_label_map
from tests.support import scene


def bomb(*, width: int, height: int) -> bytes:
    """Return a tiny, valid PNG of enormous size: decoding it would take gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def plain(height: int, width: int) -> bytes:
    return scene.encode(np.full((height, width, 3), 128, np.uint8), ".png")


def label_map(*object_ids: int, size: tuple[int, int] = (scene.HEIGHT, scene.WIDTH)) -> bytes:
    """Return a mask with one small square for each id."""
    labels = np.zeros(size, np.uint8)
    for index, object_id in enumerate(object_ids):
        row, column = divmod(index, 16)
        labels[4 * row :, 6 * column : 6 * column + 4] = object_id
    return write_label_map(labels)
