"""Pixels that a mask misses, and those that are wrong, over the course of a video.

A loop that shrinks misses more in each third; one that spreads has more that is wrong.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

THIRDS = 3


class PixelErrors(NamedTuple):
    """Missed and wrong pixels as shares of the union, in the first, second and last third."""

    missed: tuple[float, ...]
    wrong: tuple[float, ...]


def count_errors(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Return how many pixels of masks (H, W) are missed, wrong, and in either."""
    missed, wrong = np.count_nonzero(true & ~pred), np.count_nonzero(pred & ~true)
    return int(missed), int(wrong), int(np.count_nonzero(pred | true))


def share_errors(counts: ArrayLike) -> PixelErrors:
    """Return the errors of frames that were counted, (F, 3); 0 in a third without a pixel."""
    parts = np.array_split(np.asarray(counts, np.float64), THIRDS)  # each (F / 3, 3)
    sums = [part.sum(axis=0) for part in parts]
    return PixelErrors(
        tuple(float(missed / max(1.0, union)) for missed, _, union in sums),
        tuple(float(wrong / max(1.0, union)) for _, wrong, union in sums),
    )
