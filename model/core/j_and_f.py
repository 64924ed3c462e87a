"""J (region) and F (boundary) of masks against the truth, as the DAVIS toolkit computes them.

Source: Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object
Segmentation" (CVPR 2016), and the toolkit davis2017-evaluation. Masks are bool (H, W).

The toolkit dilates each boundary by a disk. A boundary pixel lies in the other's dilation exactly
if its distance to it is at most the radius, so one exact distance transform serves. One slip is
not copied: the toolkit's decay uses uint8 indices, which wrap above 256 frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BOUNDARY_TOLERANCE = 0.008  # of the frame's diagonal
RECALL_THRESHOLD = 0.5
DECAY_BINS = 4
TRANSFORMED_FROM = 0.75  # J_tr: the last quarter of the frames


def jaccard(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return intersection over union; 1 where both are empty."""
    _check_sizes(pred, true)
    union = int(np.count_nonzero(pred | true))
    return int(np.count_nonzero(pred & true)) / union if union else 1.0


def boundary_f(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    """Return F measure of the boundaries, matched within ceil(0.008 * diagonal) pixels.

    Precision: how much of the predicted boundary lies near the true one; recall: the reverse.
    Where neither has a boundary F is 1, where only one has it 0.
    """
    _check_sizes(pred, true)
    tolerance = math.ceil(BOUNDARY_TOLERANCE * math.hypot(*true.shape))
    pred_edge, true_edge = boundary(pred), boundary(true)
    # Where boundaries are, and a margin: what is farther away matches nothing.
    x, y, width, height = cv2.boundingRect((pred_edge | true_edge).view(np.uint8))
    window = (
        slice(max(0, y - tolerance), y + height + tolerance),
        slice(max(0, x - tolerance), x + width + tolerance),
    )
    pred_edge, true_edge = pred_edge[window], true_edge[window]
    if not pred_edge.any() or not true_edge.any():
        return float(pred_edge.any() == true_edge.any())
    precision = _share_near(pred_edge, true_edge, tolerance=tolerance)
    recall = _share_near(true_edge, pred_edge, tolerance=tolerance)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


def boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return bool (H, W): pixels that differ from the one to the right, below, or right below.

    The toolkit's `seg2bmap`: the last row looks right only, the last column down only, and the
    corner between them at nothing.
    """
    edge = np.zeros_like(mask)
    edge[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    edge[:-1] |= mask[:-1] != mask[1:]
    edge[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return edge


def _share_near(edge: NDArray[np.bool_], other: NDArray[np.bool_], *, tolerance: int) -> float:
    """Return the share of `edge` within `tolerance` of `other`.

    The toolkit dilates `other` by a disk. The distance to it says the same, and faster.
    """
    away = np.logical_not(other).view(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Distances are roots of whole numbers: the half separates them beyond any rounding.
    return float(np.mean(distance[edge] ** 2 < tolerance**2 + 0.5))


def _check_sizes(pred: NDArray[np.bool_], true: NDArray[np.bool_]) -> None:
    if pred.shape != true.shape:
        raise ValueError(f"masks of sizes {pred.shape} and {true.shape} cannot be compared")


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of one measure over the frames of a sequence."""

    mean: float
    recall: float  # the share of frames above 0.5
    decay: float  # the mean of the first quarter less that of the last

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistics:
        """Return the toolkit's `db_statistics`; ValueError without values."""
        if not values:
            raise ValueError("no frames to score: the first and the last do not count")
        array = np.asarray(values, dtype=np.float64)
        # The quarters overlap by one frame, and rounding is half up: both as in the toolkit.
        edges = np.round(np.linspace(1, len(array), DECAY_BINS + 1) + 1e-10).astype(int) - 1
        first, last = array[: edges[1] + 1], array[edges[-2] : edges[-1] + 1]
        return cls(
            mean=float(array.mean()),
            recall=float(np.mean(array > RECALL_THRESHOLD)),
            decay=float(first.mean() - last.mean()),
        )


@dataclass(frozen=True, slots=True)
class SequenceScores:
    """J and F of one object in every frame that counts: all but the first and the last."""

    j_frames: tuple[float, ...]
    f_frames: tuple[float, ...]

    @classmethod
    def of(
        cls, pred: Sequence[NDArray[np.bool_]], true: Sequence[NDArray[np.bool_]]
    ) -> SequenceScores:
        """Return the scores of a whole sequence, given with its first and last frame."""
        pairs = list(zip(pred, true, strict=True))[1:-1]
        return cls(
            j_frames=tuple(jaccard(p, t) for p, t in pairs),
            f_frames=tuple(boundary_f(p, t) for p, t in pairs),
        )

    @property
    def j(self) -> Statistics:
        """Return mean, recall and decay of J."""
        return Statistics.of(self.j_frames)

    @property
    def f(self) -> Statistics:
        """Return mean, recall and decay of F."""
        return Statistics.of(self.f_frames)

    @property
    def j_and_f(self) -> float:
        """Return the mean of both means."""
        return (self.j.mean + self.f.mean) / 2

    @property
    def j_tr(self) -> float:
        """Return mean J over the last quarter of the frames that count (VOST's measure)."""
        return Statistics.of(self.j_frames[int(TRANSFORMED_FROM * len(self.j_frames)) :]).mean
