"""What a user hands over, frames and masks of many kinds, as the bytes that are sent.

Anything but uint8 is refused: a picture of floats, or of 16 bits, would be sent as a black one.
"""

from __future__ import annotations

import io
import os
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tamvt_client.masks import write_label_map

JPEG_QUALITY = 95
PICTURE_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "P", "RGB", "RGBA")


class BinaryFile(Protocol):
    """A file object that gives bytes."""

    def read(self) -> bytes:
        """Return what is left of the file."""
        ...


# Encoded bytes, or a file that holds them: its path, or the opened file.
FileInput: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryFile
# A JPEG, PNG or WebP, a Pillow image, or a picture: uint8 RGB (H, W, 3).
ImageInput: TypeAlias = FileInput | Image.Image | NDArray[np.uint8]
# A PNG, a Pillow image, or an array (H, W) or (H, W, 1): object ids, or one object's pixels.
MaskInput: TypeAlias = FileInput | Image.Image | NDArray[np.uint8] | NDArray[np.bool_]


def read_file(file: FileInput, *, name: str) -> bytes:
    """Return a file's bytes; TypeError says what is taken, and that `name` is not that."""
    if isinstance(file, bytes):
        return file
    if isinstance(file, bytearray | memoryview):
        return bytes(file)
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            return opened.read()
    if hasattr(file, "read"):
        data = file.read()
        if not isinstance(data, bytes):
            raise TypeError(f"{name}: a file is opened in binary mode, open(path, 'rb')")
        return data
    raise TypeError(
        f"{name} is bytes, a path, a file, a Pillow image or a uint8 array, not {type(file)}"
    )


def encode_image(image: ImageInput) -> bytes:
    """Return an image as it is sent: a picture becomes a JPEG of quality 95, files stay.

    Equal pictures give equal bytes, so that a repeated append is recognized. TypeError or
    ValueError where the picture is not uint8 RGB (H, W, 3).
    """
    if isinstance(image, Image.Image):
        if image.mode not in PICTURE_MODES:
            raise TypeError(f"a picture of 8 bits is needed; this one has the mode {image.mode!r}")
        upright = ImageOps.exif_transpose(image).convert("RGB")
    elif isinstance(image, np.ndarray):
        if image.dtype != np.uint8:
            raise TypeError(f"a picture is uint8, 0 to 255; this array is {image.dtype}")
        if image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"a picture is RGB (H, W, 3); this array is {image.shape}")
        upright = Image.fromarray(image)
    else:
        return read_file(image, name="an image")
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()


def encode_mask(mask: MaskInput) -> bytes:
    """Return a mask as it is sent: an array becomes a palette PNG, without loss; files stay.

    TypeError or ValueError where an array is not uint8 or bool, (H, W) or (H, W, 1).
    """
    if isinstance(mask, Image.Image):
        if mask.mode not in MASK_MODES:
            raise TypeError(f"a mask of 8 bits is needed; this one has the mode {mask.mode!r}")
        file = io.BytesIO()
        mask.save(file, "PNG")
        return file.getvalue()
    if not isinstance(mask, np.ndarray):
        return read_file(mask, name="a mask")
    if mask.dtype not in (np.uint8, np.bool_):
        raise TypeError(f"a mask is uint8 object ids or bool; this array is {mask.dtype}")
    labels = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    if labels.ndim != 2 or not labels.size:
        raise ValueError(f"a mask is (H, W) or (H, W, 1); this array is {mask.shape}")
    return write_label_map(np.ascontiguousarray(labels, np.uint8))


def media_type(data: bytes) -> str:
    """Return the media type of an encoded image or video, told by its first bytes."""
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
