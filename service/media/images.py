"""Pictures to bytes and back, as the commands and tests need it.

H and W are a picture's height and width; pictures are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.image_headers import ImageLimits, read_header
from model.core.pixels import read_image

JPEG_QUALITY = 95
FALLING_QUALITY = (95, 85, 75, 60)
LARGE_BYTES = 4_000_000  # half of what a service takes of a frame unless it is told otherwise
# The service says what is too large for it, and how to change that.
ANY_SIZE = ImageLimits(max_bytes=2**31, max_width=2**16, max_height=2**16)


def turned(
    rgb: NDArray[np.uint8], transposed: bool, left_right: bool, upside_down: bool
) -> NDArray[np.uint8]:
    """Return a picture with its rows and columns exchanged first, and then its sides."""
    rgb = rgb.transpose(1, 0, 2) if transposed else rgb
    rgb = rgb[:, ::-1] if left_right else rgb
    return np.ascontiguousarray(rgb[::-1] if upside_down else rgb)


def encode_jpeg(rgb: NDArray[np.uint8], *, quality: int = JPEG_QUALITY) -> bytes:
    """Return a picture (H, W, 3) as a JPEG; equal pictures give equal bytes."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return encoded.tobytes()


def fitting_image(data: bytes) -> bytes:
    """Return a complete image as it is sent: as it came, or as a JPEG if it has many bytes.

    The quality falls until it has few enough, the size in pixels stays. Raise PixelError where it
    is cut off, damaged or of another kind than JPEG, PNG and WebP.
    """
    read_header(data, ANY_SIZE)
    if len(data) <= LARGE_BYTES:
        return data
    rgb = read_image(data, ANY_SIZE)
    made = (encode_jpeg(rgb, quality=quality) for quality in FALLING_QUALITY)
    return next((jpeg for jpeg in made if len(jpeg) <= LARGE_BYTES), data)


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) as a PNG, without loss."""
    _, encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """Return the picture (H, W, 3) in a JPEG, PNG or WebP, upright; raise ValueError."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if bgr is None:
        raise ValueError("an image that cannot be decoded")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def name_media_type(data: bytes) -> str:
    """Return the media type of an encoded image or video by its first bytes."""
    if data.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    if data.startswith(b"\x1a\x45\xdf\xa3"):
        return "video/webm"
    if data[4:8] == b"ftyp":
        return "video/quicktime" if data[8:12] == b"qt  " else "video/mp4"
    return "application/octet-stream"
