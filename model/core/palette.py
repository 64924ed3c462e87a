"""Label maps as PNG images: palette images with the colors of DAVIS, and what users send instead.

Pillow reads and writes them: OpenCV replaces a palette's indices by its colors.
"""

from __future__ import annotations

import io
import logging
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.core.image_headers import (
    ImageLimits,
    Undecodable,
    bare_png,
    check_png_pixels,
    read_header,
)
from model.core.masks import IGNORE, MaskError, settle_ignored

log = logging.getLogger(__name__)

_GRAY, _RGB, _PALETTE, _RGBA = 0, 2, 3, 6  # PNG's color types; gray with alpha is 4


def davis_palette() -> NDArray[np.uint8]:
    """Return DAVIS's colors, uint8 (256, 3): PASCAL VOC's for 0..21, then gray of the index."""
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for index in range(22):
        for channel in range(3):  # every third bit, the lowest as the highest of eight
            bits = index >> channel
            palette[index, channel] = sum((bits >> 3 * n & 1) << (7 - n) for n in range(3))
    return palette


def write_label_map(labels: NDArray[np.uint8]) -> bytes:
    """Return a palette PNG of the label map (H, W), in the colors of DAVIS."""
    image = Image.fromarray(labels)
    image.putpalette(davis_palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


class OpenedMask(NamedTuple):
    """A mask image's own values: gray or indices (H, W), or RGB (H, W, 3).

    `colors` are those of a palette, uint8 (256, 3).
    """

    values: NDArray[np.uint8]
    colors: NDArray[np.uint8] | None = None


def read_label_map(png: bytes, limits: ImageLimits) -> NDArray[np.uint8]:
    """Return uint8 (H, W): the label map of a mask image, 255 settled (`settle_ignored`).

    A palette PNG gives its indices, a gray one its values, a 1-bit one 0 and 1. An RGB one is
    taken where its meaning is clear: gray values as such, or only colors of the DAVIS palette.
    For label maps that a program wrote; what a person saved is read by `mask_images`.
    Raise PixelError where the bytes are no complete image within `limits`, MaskError where
    the image is no mask.
    """
    values = open_mask(png, limits).values
    return settle_ignored(values if values.ndim == 2 else _color_labels(values))


def open_mask(png: bytes, limits: ImageLimits) -> OpenedMask:
    """Return the values of a mask image, checked before it is decoded.

    EXIF orientation does not apply: a mask is as it is stored. Raise PixelError where the bytes
    are no complete image within `limits`, MaskError where it is none of the kinds of a mask.
    """
    header = read_header(png, limits)
    if header.kind != "png":
        raise MaskError(
            f"a mask is a PNG; this is a {header.kind.upper()}, whose values may differ"
        )
    limits.check_size(header.height, header.width)
    check_png_pixels(png, header)
    depth, color = png[24], png[25]
    if color == _GRAY and depth in (2, 4):
        raise MaskError(f"a gray mask of {depth} bits is unclear: save it with 8 bits or a palette")
    if color != _GRAY and depth == 16:
        raise MaskError("a color mask of 16 bits is unclear: save it with 8 bits")
    try:
        with Image.open(io.BytesIO(bare_png(png)), formats=["PNG"]) as image:
            pixels, palette = np.asarray(image), image.getpalette()
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises what its plugins happen to
        log.warning("a mask image cannot be decoded: %r", error)
        raise Undecodable("the mask image cannot be decoded") from error
    if color == _PALETTE:
        colors = np.zeros((256, 3), np.uint8)
        known = np.array(palette or [], np.uint8).reshape(-1, 3)
        colors[: len(known)] = known
        return OpenedMask(_gray_labels(pixels), colors)
    if color == _GRAY:
        return OpenedMask(_gray_labels(pixels))
    if color == _RGB:
        return OpenedMask(pixels)
    if not (pixels[..., -1] == 255).all():
        raise MaskError("a mask with transparent pixels is unclear: save it without alpha")
    return OpenedMask(pixels[..., :-1] if color == _RGBA else _gray_labels(pixels[..., 0]))


def _gray_labels(pixels: NDArray[np.generic]) -> NDArray[np.uint8]:
    if pixels.max() > IGNORE:
        raise MaskError("a 16-bit mask has values above 255")
    return pixels.astype(np.uint8)


def _color_labels(rgb: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return an RGB mask's labels by gray value or DAVIS color; refuse it where both differ."""
    by_color = _davis_indices(rgb)
    gray = rgb[..., 0].astype(np.uint8)
    is_gray = (rgb == rgb[..., :1]).all()
    if by_color is None and not is_gray:
        raise MaskError("an RGB mask has colors outside of the DAVIS palette")
    if by_color is None:
        return gray
    if is_gray and (by_color != gray).any():
        raise MaskError("an RGB mask in gray is unclear: save it as gray or with a palette")
    return by_color


def _davis_indices(rgb: NDArray[np.generic]) -> NDArray[np.uint8] | None:
    """Return indices of the colors in the DAVIS palette (the lowest, if twice).

    None if one is not.
    """
    codes = _color_codes(rgb)
    known, first = np.unique(_color_codes(davis_palette()), return_index=True)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    if (known[place] != codes).any():
        return None
    return first[place].astype(np.uint8)


def _color_codes(rgb: NDArray[np.generic]) -> NDArray[np.uint32]:
    red, green, blue = (rgb[..., channel].astype(np.uint32) for channel in range(3))
    return np.asarray(red << 16 | green << 8 | blue, dtype=np.uint32)
