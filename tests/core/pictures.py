"""Small pictures and the bytes of images, also of those that nobody should send."""

import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image

KINDS = ["JPEG", "PNG", "WEBP"]


def gradient(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """A smooth picture, different in each channel and towards each edge."""
    y, x = np.mgrid[0:height, 0:width]
    channels = (255 * x // width, 255 * y // height, 255 * (x + y) // (height + width))
    return np.stack(channels, axis=2).astype(np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    rows = png_chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + header + rows + png_chunk(b"IEND", b"")
