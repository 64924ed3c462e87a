"""Pictures to bytes and back, as the commands and tests need it.

H and W are a picture's height and width; pictures are uint8 RGB (H, W, 3).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

JPEG_QUALITY = 95


def encode_jpeg(rgb: NDArray[np.uint8]) -> bytes:
    """Return a picture (H, W, 3) as a JPEG of quality 95; equal pictures give equal bytes."""
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return encoded.tobytes()


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


def media_type(data: bytes) -> str:
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
