"""At which size the model sees a session's frames: its own, or a finer one for thin objects.

Matching and masks are made at strides of the model's frame. What is only a few of its pixels wide
falls between them, so a session whose thinnest object is that thin is seen larger, at more cost.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.pixels import model_size

Size = tuple[int, int]
# Of a mask whose shorter side has twice as many pixels, every second one is measured, and so on.
MEASURED_PX = 512


def measure_width(mask: NDArray[np.bool_]) -> float:
    """Return how wide an object is on average, in pixels of its mask (H, W); 0 without a pixel.

    Four times the mean distance to the border: the width of a long strip, two thirds of a disk's
    diameter.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0.0
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    step, share = max(1, min(inside.shape) // MEASURED_PX), inside.mean()
    if abs(inside[::step, ::step].mean() - share) > 0.1 * share:
        step = 1  # lines or dots so fine that some pixels do not tell
    inside = inside[::step, ::step]
    padded = np.pad(inside.view(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return float(step * 4 * distance.sum(dtype=np.float64) / np.count_nonzero(inside))


def measure_least_width(masks: Iterable[NDArray[np.bool_]]) -> float:
    """Return how wide the thinnest of objects (H, W) is, those without a pixel left out."""
    return min((width for width in map(measure_width, masks) if width), default=0.0)


def list_short_sides(spec: ModelSpec, *, most: int | None = None) -> tuple[int, ...]:
    """Return the short sides that a session may have, the model's own first."""
    finer = (side for side in spec.fine_short_sides if most is None or side <= most)
    return (spec.short_side, *finer)


def count_most_objects(spec: ModelSpec, short_side: int) -> int:
    """Return how many objects a session of this short side may have.

    So many pixels in all as the model's most objects have at its own size: memory and time of a
    clip grow with both.
    """
    own, seen = (size_at(spec, (1, 1), side)[0] for side in (spec.short_side, short_side))
    return max(1, int(spec.max_objects * (own / seen) ** 2))


def choose_short_side(
    spec: ModelSpec,
    frame_size: Size,
    least_width: float,
    *,
    objects: int,
    most: int | None = None,
) -> int:
    """Return the first short side at which the thinnest object is wide enough; else the largest.

    `least_width` is in pixels of the frame. No side above `most` is taken, and none that has no
    room for so many objects.
    """
    fitting = [
        side
        for side in list_short_sides(spec, most=most)
        if side == spec.short_side or objects <= count_most_objects(spec, side)
    ]
    scales = ((side, side / min(frame_size)) for side in fitting)
    wide = (side for side, scale in scales if least_width * scale >= spec.fine_below_px)
    return next(wide, fitting[-1])


def size_at(spec: ModelSpec, frame_size: Size, short_side: int) -> Size:
    """Return the (height, width) at which the model sees frames of this size."""
    return model_size(
        *frame_size, short_side=short_side, max_ratio=spec.max_ratio, multiple=spec.multiple
    )
