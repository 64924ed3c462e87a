"""Whether an object is there, and what is remembered of a frame in which it is lost."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.confidence import (
    Calibration,
    ObjectConfidence,
    classify_objects,
    measure_mask,
    remember_clip,
)
from model.core.memory import Memory

SIZE = (40, 60)
EVEN = Calibration(bias=0.0, sureness=1.0, wholeness=0.0, size=0.0, threshold=0.8)
MEMORY = Memory.start(0, [3, 9], capacity=4)


def square(value: int = 255, *, side: int = 20) -> NDArray[np.uint8]:
    """A soft mask (h, w) of one square."""
    soft = np.zeros(SIZE, np.uint8)
    soft[4 : 4 + side, 6 : 6 + side] = value
    return soft


def clip(*masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One frame with these objects, (1, O, h, w)."""
    return np.stack(masks)[None]


def sure(*values: float) -> NDArray[np.float32]:
    return np.array([values], np.float32)


def test_without_a_calibration_the_confidence_is_the_raw_one() -> None:
    (confidences,) = classify_objects(clip(square(), square(0)), sure(0.75, 0.0), None)
    assert confidences == ObjectConfidence(confidence=(0.75, 0.0), lost=(False, True))


def test_below_the_threshold_an_object_is_lost() -> None:
    (confidences,) = classify_objects(clip(square(), square()), sure(0.9, 0.7), EVEN)
    assert confidences == ObjectConfidence(confidence=(0.9, 0.7), lost=(False, True))


def test_at_exactly_the_threshold_an_object_is_not_lost() -> None:
    (confidences,) = classify_objects(clip(square(), square()), sure(0.8, 0.7999), EVEN)
    assert confidences == ObjectConfidence(confidence=(0.8, 0.7999), lost=(False, True))


def test_what_has_no_pixel_is_lost_however_it_is_calibrated() -> None:
    sanguine = Calibration(bias=40.0, sureness=0.0, wholeness=0.0, size=0.0, threshold=0.0)
    (confidences,) = classify_objects(clip(square(127)), sure(0.0), sanguine)
    assert confidences == ObjectConfidence(confidence=(0.0,), lost=(True,))


def test_each_frame_of_a_clip_is_judged_by_itself() -> None:
    soft = np.stack([clip(square())[0], clip(square(0))[0]])
    confidences = classify_objects(soft, np.array([[0.9], [0.0]], np.float32), EVEN)
    assert [confidences.lost for confidences in confidences] == [(False,), (True,)]


def test_a_mask_in_pieces_counts_against_the_object() -> None:
    calibration = Calibration(bias=0.0, sureness=1.0, wholeness=4.0, size=0.0, threshold=0.5)
    pieces = square(side=6) | np.roll(square(side=6), 30, axis=1)
    whole, broken = classify_objects(
        np.stack([clip(square())[0], clip(pieces)[0]]), sure(0.9, 0.9).T, calibration
    )
    assert whole.confidence[0] == 0.9
    assert broken.confidence[0] < 0.5


def test_features_are_the_logit_the_share_of_the_largest_part_and_the_size() -> None:
    pieces = (square(side=8) | np.roll(square(side=8), 30, axis=1)) > 0
    assert measure_mask(0.5, square() > 0)[:2] == (0.0, 0.0)
    assert measure_mask(0.5, pieces)[:2] == pytest.approx((0.0, np.log(0.5)))
    assert measure_mask(0.5, square() > 0)[2] == pytest.approx(np.log(400 / 2400))


@pytest.mark.parametrize("raw", [0.0, 0.5, 1.0])
def test_features_of_any_mask_are_finite(raw: float) -> None:
    lone = np.zeros(SIZE, np.bool_)
    lone[1, 1] = True  # on a row that is not looked at
    assert np.isfinite(measure_mask(raw, lone)).all()


@pytest.mark.parametrize("bias", [-1e6, 1e6])
def test_a_probability_stays_between_0_and_1(bias: float) -> None:
    calibration = Calibration(bias=bias, sureness=1.0, wholeness=0.0, size=0.0, threshold=0.5)
    assert 0 <= calibration.estimate_probability(0.9, square() > 0) <= 1


@pytest.mark.parametrize(
    "changed",
    [{"bias": float("nan")}, {"sureness": None}, {"threshold": 1.5}, {"memory_gate": 1}],
    ids=str,
)
def test_a_calibration_that_makes_no_sense_is_refused(changed: dict[str, object]) -> None:
    fields: dict[str, object] = {
        "bias": 0.0,
        "sureness": 1.0,
        "wholeness": 0.0,
        "size": 0.0,
        "threshold": 0.5,
    }
    with pytest.raises(ValueError, match=r"calibration|threshold"):
        Calibration(**{**fields, **changed})  # type: ignore[arg-type]


def test_without_the_gate_lost_objects_are_remembered() -> None:
    confidences = ObjectConfidence((0.1, 0.2), (True, True))
    after = remember_clip(MEMORY, 2, [3, 9], confidences, gate=False)
    assert after == MEMORY.remember(2, [3, 9])


def test_with_the_gate_an_entry_does_not_know_lost_objects() -> None:
    after = remember_clip(MEMORY, 2, [3, 9], ObjectConfidence((0.1, 0.9), (True, False)), gate=True)
    assert after.newest.object_ids == (9,)


def test_with_the_gate_there_is_no_entry_where_all_are_lost() -> None:
    confidences = ObjectConfidence((0.1, 0.2), (True, True))
    assert remember_clip(MEMORY, 2, [3, 9], confidences, gate=True) is MEMORY
