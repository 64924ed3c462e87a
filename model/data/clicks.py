"""Where a person would click: inside of an object, and where a mask is most wrong.

Masks are uint8 {0, 1} (H, W); a click is x, y in pixels.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.prompt_contract import ON_BACKGROUND, ON_OBJECT
from model.data.static import Pixels


class Click(NamedTuple):
    """A point in a picture, and what is there: ON_OBJECT or ON_BACKGROUND."""

    x: float
    y: float
    label: int


def place_click(
    mask: Pixels,
    truth: Pixels,
    rng: np.random.Generator | None = None,
    *,
    inside: float = 0.5,
) -> Click | None:
    """Return a click where the mask is most wrong: in the middle of what was missed or is too much.

    For an empty mask it is the point furthest inside the object. With `rng` it is any point that
    lies at least `inside` times as far inside. None: nothing is wrong.
    """
    depths = (
        measure_depth((truth > mask).view(np.uint8)),
        measure_depth((mask > truth).view(np.uint8)),
    )
    missed, wrong = (float(depth.max()) for depth in depths)
    if max(missed, wrong) <= 0:
        return None
    depth, label = (depths[0], ON_OBJECT) if missed >= wrong else (depths[1], ON_BACKGROUND)
    if rng is None:
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        rows, columns = np.nonzero(depth >= inside * depth.max())
        chosen = rng.integers(len(rows))
        y, x = rows[chosen], columns[chosen]
    return Click(float(x), float(y), label)


def measure_depth(mask: Pixels) -> NDArray[np.float32]:
    """Return how far each pixel of a mask lies inside of it; the picture's rim is outside."""
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1], np.float32)


def jitter_box(mask: Pixels, rng: np.random.Generator, *, amount: float) -> NDArray[np.float64]:
    """Return a box [left, top, right, bottom] around a mask, each side off by up to `amount`.

    It is a share of the box's own size; sides lie outside of the object more often than inside.
    """
    x, y, width, height = cv2.boundingRect(mask)
    size = np.array([width, height, width, height])
    outwards = np.array([-1.0, -1.0, 1.0, 1.0])
    box = np.array([x, y, x + width - 1, y + height - 1])
    moved = box + outwards * size * rng.uniform(-0.25, 1.0, 4) * amount
    limits = np.array([mask.shape[1], mask.shape[0]] * 2) - 1
    return np.asarray(np.clip(moved, 0, limits), np.float64)


def roughen_mask(mask: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a mask as somebody else might have made it: too small, too large, cut, or elsewhere.

    A part is cut off by a line through the object, or a disc is added or taken away at its edge.
    """
    area = max(1.0, float(mask.sum()))
    reach = max(1, round(np.sqrt(area) * rng.uniform(0.02, 0.15)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    kind = rng.integers(4)
    if kind == 0:
        return np.asarray(cv2.dilate(mask, kernel), np.uint8)
    if kind == 1:
        return np.asarray(cv2.erode(mask, kernel), np.uint8)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask
    chosen = rng.integers(len(rows))
    x, y, rough = int(columns[chosen]), int(rows[chosen]), mask.copy()
    if kind == 2:
        angle = rng.uniform(0, 2 * np.pi)
        height, width = mask.shape
        side = (
            np.cos(angle) * (np.arange(width) - x)
            + np.sin(angle) * (np.arange(height) - y)[:, None]
        )
        rough[side > 0] = 0
        return rough
    radius = max(2, round(np.sqrt(area) * rng.uniform(0.1, 0.4)))
    cv2.circle(rough, (x, y), radius, int(rng.integers(2)), thickness=-1)
    return rough
