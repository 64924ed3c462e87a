"""What a model says of one object frame by frame, beside the truth; and how well it knows that.

F frames of H x W pixels, O = 1 object; `good` is an object that is there under a good mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.core.confidence import INSIDE, Features, measure_mask
from model.data.static import Pixels
from model.evaluation.runtime import Runtime
from model.evaluation.tracker import OfflineFrame, OfflineTracker

GOOD_IOU = 0.5
BINS = 10  # of equal width, for the calibration error


@dataclass(frozen=True, slots=True)
class Observation:
    """One frame: shares of the picture, IoU (1 if both masks are empty), and what was said."""

    frame: int
    true_share: float
    share: float
    iou: float
    raw: float
    confidence: float
    lost: bool
    features: Features | None  # None: the mask is empty

    @property
    def away(self) -> bool:
        """Return whether nothing of the object is in this frame."""
        return not self.true_share

    @property
    def good(self) -> bool:
        """Return whether the object is there and the mask overlaps it by half or more."""
        return not self.away and self.iou >= GOOD_IOU


@dataclass(frozen=True, slots=True)
class Quality:
    """How well a confidence tells good masks from others, and what `lost` is worth."""

    frames: int
    not_good: int
    raw_error: float  # expected calibration error of the raw confidence
    error: float  # of the calibrated one
    precision: float  # of `lost` as a sign that the mask is not good; nan: nothing was lost
    recall: float


def observe_object(
    runtime: Runtime, images: Sequence[bytes], masks: Sequence[Pixels] | Pixels, *, gate: bool
) -> list[Observation]:
    """Return every frame after the first, from whose mask the object is followed."""
    tracker = OfflineTracker(runtime, images[0], masks[0], memory_gate=gate)
    tracked = tracker.track(images[1:])
    return [
        pair_with_truth(number, frame, mask)
        for number, (frame, mask) in enumerate(zip(tracked, masks[1:], strict=True), start=1)
    ]


def pair_with_truth(number: int, frame: OfflineFrame, mask: Pixels) -> Observation:
    """Return a frame beside its true mask (H, W)."""
    said, true = frame.labels > 0, mask > 0
    union = np.count_nonzero(said | true)
    inside = frame.soft[0] >= INSIDE
    return Observation(
        frame=number,
        true_share=float(true.mean()),
        share=float(said.mean()),
        iou=np.count_nonzero(said & true) / union if union else 1.0,
        raw=frame.raw[0],
        confidence=frame.confidence[0],
        lost=frame.lost[0],
        features=measure_mask(frame.raw[0], inside) if inside.any() else None,
    )


def measure_quality(observations: Sequence[Observation]) -> Quality:
    """Return the quality of what was said; of at least one frame."""
    good = np.array([each.good for each in observations])
    lost = np.array([each.lost for each in observations])
    hits = float(np.count_nonzero(lost & ~good))
    return Quality(
        frames=len(good),
        not_good=int(np.count_nonzero(~good)),
        raw_error=measure_calibration_error(np.array([each.raw for each in observations]), good),
        error=measure_calibration_error(np.array([each.confidence for each in observations]), good),
        precision=hits / lost.sum() if lost.any() else float("nan"),
        recall=hits / (~good).sum() if not good.all() else float("nan"),
    )


def measure_calibration_error(said: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """Return the expected calibration error: mean |said - happened| over bins, by their size.

    Guo et al., On Calibration of Modern Neural Networks (2017), eq. 3.
    """
    bins = np.minimum((said * BINS).astype(int), BINS - 1)
    gaps = (
        np.count_nonzero(bins == each) * abs(said[bins == each].mean() - good[bins == each].mean())
        for each in np.unique(bins)
    )
    return float(sum(gaps) / len(said))
