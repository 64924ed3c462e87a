"""From bytes to the pixels the model sees: decoding, sizes, and what a memory keeps of a frame.

This is the one definition of pixels for serving, training and evaluation. Sizes are
(height, width); a picture is uint8 RGB (H, W, 3), contiguous.
"""

from __future__ import annotations

import logging
import math

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.image_headers import (
    ImageLimits,
    PixelError,
    TooLarge,
    Truncated,
    Undecodable,
    check_png_pixels,
    is_jpeg,
    read_header,
)

__all__ = [
    "ImageLimits",
    "PixelError",
    "TooLarge",
    "Truncated",
    "Undecodable",
    "keep_frame",
    "model_frame",
    "model_size",
    "read_image",
    "resize_frame",
    "resize_masks",
]

log = logging.getLogger(__name__)

MAX_KEPT_BYTES = 100_000
KEPT_QUALITY = 90


def read_image(data: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    """Return uint8 (H, W, 3) RGB of a JPEG, PNG or WebP, upright (EXIF), its alpha dropped.

    Kind, completeness and size are checked before anything is decoded. Gray, CMYK and 16-bit
    images become 8-bit RGB. Raise Undecodable (also for animations), Truncated or TooLarge.
    """
    header = read_header(data, limits)
    if header.kind == "png":
        check_png_pixels(data, header)
    rgb = _decode(data)
    limits.check_size(*rgb.shape[:2])
    return rgb


def _decode(data: bytes) -> NDArray[np.uint8]:
    try:
        rgb = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except MemoryError:
        raise
    except Exception as error:  # whatever a decoder raises, it is the image that is wrong
        log.warning("an image cannot be decoded: %r", error)
        raise Undecodable("the image cannot be decoded") from error
    if rgb is None:
        raise Undecodable("the image cannot be decoded")
    return np.ascontiguousarray(rgb, dtype=np.uint8)


def model_size(
    height: int, width: int, *, short_side: int, max_ratio: float = 2.5, multiple: int = 32
) -> tuple[int, int]:
    """Return the (height, width) at which the model sees frames of this size.

    The short side becomes `short_side`, the long side keeps the aspect up to `max_ratio` times
    that, and each is rounded to the nearest multiple (half rounds up).
    """
    if height < 1 or width < 1:
        raise ValueError(f"a frame of {width}x{height} pixels has no model size")
    ratio = min(max(height, width) / min(height, width), max_ratio)
    short, long = (
        max(1, math.floor(side / multiple + 0.5)) * multiple
        for side in (short_side, short_side * ratio)
    )
    return (short, long) if height <= width else (long, short)


def resize_frame(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (h, w, 3): `rgb` (H, W, 3) at `size`."""
    return _resize(rgb, size)


def resize_masks(masks: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (O, h, w): soft masks (O, H, W), 0..255, at `size`, resampled as frames are."""
    resized = np.empty((len(masks), *size), dtype=np.uint8)
    for index, mask in enumerate(masks):
        resized[index] = _resize(mask, size)
    return resized


def _resize(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return INTER_AREA where no side grows, else INTER_LINEAR; the image itself at equal size."""
    height, width = image.shape[:2]
    if (height, width) == size:
        return np.ascontiguousarray(image)
    shrinks = size[0] <= height and size[1] <= width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(image, (size[1], size[0]), interpolation=method)
    return np.asarray(resized, dtype=np.uint8)


def keep_frame(data: bytes | None, rgb: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """Return the JPEG that a memory keeps of a frame, whose model size is `size`.

    `data`, if `rgb` was decoded from it, is kept as it came where it is a JPEG of at most 100 kB
    and neither side is more than twice the model's. Anything else is encoded at the model's size,
    quality 90. What the model sees is `model_frame` of the result, never `rgb` itself.
    """
    height, width = rgb.shape[:2]
    small = height <= 2 * size[0] and width <= 2 * size[1]
    if data is not None and small and len(data) <= MAX_KEPT_BYTES and is_jpeg(data):
        return data
    bgr = cv2.cvtColor(resize_frame(rgb, size), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, KEPT_QUALITY])
    if not done:
        raise RuntimeError("OpenCV cannot write a JPEG")
    return encoded.tobytes()


def model_frame(stored: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return what the model sees of a kept frame, uint8 (h, w, 3): the only way from bytes to it.

    Raise Undecodable where the bytes are none that `keep_frame` gave.
    """
    return resize_frame(_decode(stored), size)
