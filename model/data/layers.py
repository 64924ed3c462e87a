"""Layers of a made-up clip, and how they are drawn over one another.

A clip has F frames of size x size pixels. Masks hold 0 and 1, alpha 0 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import motion_kernel, recolour
from model.data.motion import Path, Wave, apply, source_map
from model.data.static import Pixels

_SOLID = 128  # alpha from which a pixel belongs to the layer
_LONGEST_BLUR = 20  # pixels


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object of a picture: image, mask, its centre (x, y) and extent in pixels."""

    image: Pixels
    mask: Pixels
    centre: NDArray[np.float64]
    extent: float
    cropped: bool  # by the border of its picture


@dataclass(frozen=True, slots=True)
class Layer:
    """Something that moves as one: image (H, W, 3), alpha (H, W), or None where it is solid.

    `path` takes source pixels to clip pixels, frame by frame, and `wave` bends them. `centre`
    is the source point (x, y) whose speed blurs the layer while the shutter is open, `shutter`
    being that share of a frame's time. `mask` marks the target, if it is in this layer.
    """

    image: Pixels
    alpha: Pixels | None
    mask: Pixels | None
    path: Path
    centre: NDArray[np.float64]
    wave: Wave | None = None
    colour: NDArray[np.float64] | None = None
    shutter: float = 0.0


def cut_out(image: Pixels, mask: Pixels) -> Cutout:
    """The object of `mask` (not empty) with its measures."""
    x, y, width, height = cv2.boundingRect(mask)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return Cutout(
        image=image,
        mask=mask,
        centre=np.array([x + (width - 1) / 2, y + (height - 1) / 2]),
        extent=float(np.sqrt(width * height)),
        cropped=bool(border.sum() > 0.15 * (width + height)),
    )


def soften(mask: Pixels) -> Pixels:
    """Alpha of a mask: a thin soft edge, slightly inside, so that no old backdrop shows."""
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) * np.uint8(255)
    return np.asarray(cv2.blur(inside, (3, 3)), dtype=np.uint8)


def fill_hole(image: Pixels, hole: Pixels) -> Pixels:
    """`image` with the pixels of `hole` (non-zero) made up from those around (push and pull)."""
    known = (hole == 0).astype(np.float32)
    levels = [(image * known[..., None], known)]
    while min(levels[-1][1].shape) > 4:
        colour, weight = levels[-1]
        half = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        levels.append((_shrink(colour, half), _shrink(weight, half)))
    colour, weight = levels.pop()
    filled = colour / np.maximum(weight, 1e-6)[..., None]
    for colour, weight in reversed(levels):
        filled = np.asarray(cv2.resize(filled, weight.shape[::-1]), dtype=np.float32)
        trust = np.minimum(weight * 4.0, 1.0)[..., None]
        filled += trust * (colour / np.maximum(weight, 1e-6)[..., None] - filled)
    return np.clip(np.rint(filled), 0, 255).astype(np.uint8)


def _shrink(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def first_mask(layers: Sequence[Layer], *, size: int) -> tuple[Pixels, Pixels]:
    """The target in the first frame: what is seen of it, and all of it, both (size, size)."""
    seen = whole = np.zeros((size, size), np.uint8)
    for layer in layers:
        points = _points(layer, 0, size=size)
        if layer.mask is not None:
            seen = whole = _warp(layer.mask, layer, points, size=size, nearest=True)
        elif layer.alpha is not None:
            seen = seen * (_warp(layer.alpha, layer, points, size=size) < _SOLID)
    return seen, whole


def render(layers: Sequence[Layer], moment: int, *, size: int) -> tuple[Pixels, Pixels]:
    """Frame `moment`, uint8 (size, size, 3), and what is seen of the target, (size, size)."""
    image = np.zeros((size, size, 3), np.uint8)
    seen = np.zeros((size, size), np.uint8)
    for layer in layers:
        picture, alpha, mask = _render_layer(layer, moment, size=size)
        image = picture if alpha is None else _over(image, picture, alpha)
        if alpha is not None:
            seen = seen * (alpha < _SOLID)
        if mask is not None:
            seen = seen | mask
    return image, seen.astype(np.uint8)


def _render_layer(
    layer: Layer, moment: int, *, size: int
) -> tuple[Pixels, Pixels | None, Pixels | None]:
    """Image, alpha and target mask of one layer as the clip sees them."""
    points = _points(layer, moment, size=size)
    picture = _warp(layer.image, layer, points, size=size)
    if layer.colour is not None:
        picture = recolour(picture, layer.colour[moment])
    alpha = None if layer.alpha is None else _warp(layer.alpha, layer, points, size=size)
    kernel = _blur(layer, moment)
    if kernel is not None:
        picture = _filter(picture, kernel)
        alpha = None if alpha is None else _filter(alpha, kernel)
    if layer.mask is None:
        return picture, alpha, None
    if alpha is not None:
        return picture, alpha, (alpha >= _SOLID).astype(np.uint8)
    return picture, alpha, _warp(layer.mask, layer, points, size=size, nearest=True)


def _blur(layer: Layer, moment: int) -> NDArray[np.float32] | None:
    """The kernel of what the layer's centre does while the shutter is open, or None."""
    if not layer.shutter or len(layer.path) < 2:
        return None
    before = max(0, moment - 1)
    shift = apply(layer.path[before + 1], layer.centre) - apply(layer.path[before], layer.centre)
    return motion_kernel(layer.shutter * shift, longest=_LONGEST_BLUR)


def _filter(pixels: Pixels, kernel: NDArray[np.float32]) -> Pixels:
    return np.asarray(cv2.filter2D(pixels, -1, kernel), dtype=np.uint8)


def _over(below: Pixels, above: Pixels, alpha: Pixels) -> Pixels:
    """`above` over `below`, weighted by alpha."""
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    return np.asarray(cv2.blendLinear(above, below, share, 1 - share), dtype=np.uint8)


def _points(layer: Layer, moment: int, *, size: int) -> NDArray[np.float32]:
    """How to warp the layer: a map (size, size, 2) where it bends, else a matrix (2, 3)."""
    matrix = layer.path[moment]
    if layer.wave is None:
        return matrix[:2].astype(np.float32)
    return source_map(np.linalg.inv(matrix), layer.wave, moment, size=size)


def _warp(
    pixels: Pixels, layer: Layer, points: NDArray[np.float32], *, size: int, nearest: bool = False
) -> Pixels:
    """Source pixels as the clip sees them; a solid layer is mirrored at its border."""
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border = cv2.BORDER_REFLECT_101 if layer.alpha is None else cv2.BORDER_CONSTANT
    if layer.wave is None:
        warped = cv2.warpAffine(pixels, points, (size, size), flags=flags, borderMode=border)
    else:
        # One map holds both coordinates; the stub does not know that the other may be None.
        warped = cv2.remap(pixels, points, None, flags, borderMode=border)  # type: ignore[call-overload]
    return np.asarray(warped, dtype=np.uint8)
