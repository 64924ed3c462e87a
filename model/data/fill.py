"""What a moved object leaves behind: its hole filled with colors and texture from elsewhere."""

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.static import Pixels

_COARSE = 2  # colors are spread at half the size: they are smooth
_DETAIL = 16  # what is finer than so many pixels is texture
_TRIES = 12


def fill_hole(image: Pixels, hole: Pixels, rng: np.random.Generator) -> Pixels:
    """Return `image` with the pixels of `hole` made up: colors from around, texture from afar.

    The texture is that of another place of the picture, drawn among those that lie free of the
    hole; where none does, the colors stay smooth.
    """
    colors = spread_colors(image, hole)
    across, down = _draw_offset(hole, rng)
    # What leaves on one side enters on the other.
    texture = np.roll(_texture(image, hole), (down, across), axis=(0, 1))
    # Feathered, since the colors of what is cut out bleed over its outline.
    share = cv2.blur((hole > 0).astype(np.float32), (5, 5))[..., None]
    share = np.where(hole[..., None] > 0, 1.0, share * (share > 0.02))
    made = colors + texture
    return np.clip(image + share * (made - image), 0, 255).astype(np.uint8)


def spread_colors(image: Pixels, hole: Pixels) -> NDArray[np.float32]:
    """Return colors (H, W, 3) that are smooth within the hole and run on from around it."""
    height, width = hole.shape
    size = (max(1, width // _COARSE), max(1, height // _COARSE))
    known = _shrink((hole == 0).astype(np.float32), size)
    levels = [(_shrink(image * (hole == 0)[..., None].astype(np.float32), size), known)]
    while min(levels[-1][1].shape) > 4:
        color, weight = levels[-1]
        half = ((weight.shape[1] + 1) // 2, (weight.shape[0] + 1) // 2)
        levels.append((_shrink(color, half), _shrink(weight, half)))
    color, weight = levels.pop()
    filled = color / np.maximum(weight, 1e-6)[..., None]
    for color, weight in reversed(levels):
        filled = np.asarray(cv2.resize(filled, weight.shape[::-1]), dtype=np.float32)
        trust = np.minimum(weight * 4.0, 1.0)[..., None]
        filled += trust * (color / np.maximum(weight, 1e-6)[..., None] - filled)
    return np.asarray(cv2.resize(filled, (width, height)), dtype=np.float32)


def _texture(image: Pixels, hole: Pixels) -> NDArray[np.float32]:
    """Return what is finer than the colors around, (H, W, 3); nothing in the hole."""
    height, width = hole.shape
    size = (max(1, width // _DETAIL), max(1, height // _DETAIL))
    known = (hole == 0).astype(np.float32)
    weight = np.maximum(_shrink(known, size), 1e-3)
    colors = _shrink(image * known[..., None], size) / weight.reshape(*weight.shape, 1)
    coarse = np.asarray(cv2.resize(colors, (width, height)), dtype=np.float32)
    return np.asarray((image - coarse) * known[..., None], dtype=np.float32)


def _draw_offset(hole: Pixels, rng: np.random.Generator) -> tuple[int, int]:
    """Return a shift (x, y) that carries the hole off itself, of several drawn."""
    height, width = hole.shape
    small = cv2.resize(hole, (max(1, width // 8), max(1, height // 8))) > 0
    best, offset = np.inf, (0, 0)
    for x, y in rng.uniform(-0.6, 0.6, size=(_TRIES, 2)):
        columns, rows = round(x * small.shape[1]), round(y * small.shape[0])
        overlap = float((small & np.roll(small, (rows, columns), axis=(0, 1))).sum())
        # As near as may be: what is near looks alike.
        cost = overlap + 0.02 * small.sum() * (abs(x) + abs(y))
        if cost < best:
            best, offset = cost, (columns * 8, rows * 8)
    return offset


def _shrink(pixels: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), dtype=np.float32)
