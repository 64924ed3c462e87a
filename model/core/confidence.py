"""Whether an object is there: a calibrated confidence, what counts as lost, what is remembered.

All of it follows from the clip's soft masks, the memory and the model's own numbers: a clip that
is run again gets the same, wherever it runs. Letters: L frames of a clip, O objects,
h and w the model's size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.memory import FIRST_IN_FIRST_OUT, Memory, Retention

INSIDE = 128  # soft value from which a pixel is the object's
SUREST = 0.999  # of the raw confidence, where its logit is cut off
LEAST_WHOLE = 0.05  # of the largest part's share, where its logarithm is cut off
STEEPEST = 50.0  # of the logit of a probability
DIGITS = 4

Features = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Calibration:  # decision 50
    """How a model's raw confidence becomes a probability; fitted by `tamvt-model calibrate`.

    The probability that the object is there and its mask is good (an IoU of at least 0.5 with the
    true one) is the sigmoid of `bias` + `sureness` * logit(raw confidence) + `wholeness` *
    log(share of its pixels that the largest part has) + `size` * log(share of the picture). Below
    `threshold` the object is lost. `memory_gate` is the default of sessions: a lost object is not
    remembered.
    """

    bias: float
    sureness: float
    wholeness: float
    size: float
    threshold: float
    memory_gate: bool = False

    def __post_init__(self) -> None:
        numbers = (self.bias, self.sureness, self.wholeness, self.size, self.threshold)
        if not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
            raise ValueError(f"a calibration of {numbers}")
        if not 0 <= self.threshold <= 1 or not isinstance(self.memory_gate, bool):
            raise ValueError(f"threshold {self.threshold}, memory_gate {self.memory_gate}")

    def estimate_probability(self, raw: float, mask: NDArray[np.bool_]) -> float:
        """Return the calibrated confidence, 0 to 1, of a mask (h, w) that is not empty."""
        return self.weigh_features(measure_mask(raw, mask))

    def weigh_features(self, found: Features) -> float:
        """Return the calibrated confidence, 0 to 1, of what `measure_mask` found."""
        weights = (self.sureness, self.wholeness, self.size)
        logit = self.bias + sum(w * x for w, x in zip(weights, found, strict=True))
        return 1 / (1 + math.exp(-max(-STEEPEST, min(STEEPEST, logit))))


@dataclass(frozen=True, slots=True)
class ObjectConfidence:
    """Confidence of each object in one frame and whether it is lost, by order of object ids."""

    confidence: tuple[float, ...]  # four digits
    lost: tuple[bool, ...]


def measure_mask(raw: float, mask: NDArray[np.bool_]) -> Features:
    """Return sureness, wholeness and size of a mask (h, w) that is not empty, to be weighed.

    Parts are counted on every other row and column, which is enough and four times as fast.
    """
    sure = min(max(raw, 1 - SUREST), SUREST)
    parts = cv2.connectedComponentsWithStats(mask[::2, ::2].view(np.uint8))[2]
    areas = parts[1:, cv2.CC_STAT_AREA]  # the background's comes first
    whole = float(areas.max() / areas.sum()) if len(areas) else 1.0
    share = np.count_nonzero(mask) / mask.size
    return math.log(sure / (1 - sure)), math.log(max(whole, LEAST_WHOLE)), math.log(share)


def classify_objects(
    soft: NDArray[np.uint8], raw: NDArray[np.float32], calibration: Calibration | None
) -> tuple[ObjectConfidence, ...]:
    """Classify the objects of L frames by soft masks (L, O, h, w) and raw confidence (L, O).

    A mask without a pixel has confidence 0 and is lost. Without a calibration the confidence is
    the raw one, and nothing else is lost.
    """
    return tuple(
        _classify_masks(masks, sure, calibration)
        for masks, sure in zip(soft >= INSIDE, raw.tolist(), strict=True)
    )


def remember_clip(
    memory: Memory,
    frame: int,
    object_ids: Sequence[int],
    confidences: ObjectConfidence,
    *,
    gate: bool,
    retention: Retention = FIRST_IN_FIRST_OUT,
) -> Memory:
    """Return the memory after a clip whose last frame is `frame` and has these `confidences`.

    With the gate, the new entry does not know the objects that are lost, and there is none where
    all of them are. The model's `retention` says whether the frame is remembered at all.
    """
    seen = zip(object_ids, confidences.lost, strict=True)
    known = [object_id for object_id, lost in seen if not (gate and lost)]
    return memory.remember(frame, known, retention) if known else memory


def _classify_masks(
    masks: NDArray[np.bool_], raw: Sequence[float], calibration: Calibration | None
) -> ObjectConfidence:
    """Classify the objects of one frame by their soft masks (O, h, w)."""
    sure, lost = [], []
    for mask, said in zip(masks, raw, strict=True):
        there = bool(mask.any())
        if there and calibration is not None:
            said = calibration.estimate_probability(said, mask)
        confidence = round(said, DIGITS) if there else 0.0
        sure.append(confidence)
        lost.append(not there or (calibration is not None and confidence < calibration.threshold))
    return ObjectConfidence(tuple(sure), tuple(lost))
