"""What is said of one object beside the truth, and how good that is."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.evaluation.confidence_quality import (
    Observation,
    measure_calibration_error,
    measure_quality,
    observe_object,
)
from model.evaluation.runtime import GraphRuntime
from tests.support import scene


def observation(
    *, true: float = 0.1, iou: float = 0.9, said: float = 0.9, lost: bool = False
) -> Observation:
    return Observation(
        frame=1,
        true_share=true,
        share=0.1,
        iou=iou,
        raw=said,
        confidence=said,
        lost=lost,
        features=(0.0, 0.0, 0.0),
    )


GOOD, BAD, AWAY = observation(), observation(iou=0.2), observation(true=0.0, iou=0.0)


def test_a_good_mask_overlaps_an_object_that_is_there() -> None:
    assert [each.good for each in (GOOD, BAD, AWAY)] == [True, False, False]
    assert observation(true=0.0, iou=1.0).good is False  # nothing there, and nothing said
    assert [each.away for each in (GOOD, BAD, AWAY)] == [False, False, True]


@pytest.mark.parametrize(
    ("said", "good", "error"),
    [
        ([1.0, 1.0], [True, True], 0.0),
        ([1.0, 1.0], [True, False], 0.5),
        ([0.75, 0.75, 0.75, 0.75], [True, True, True, False], 0.0),
        ([0.0, 1.0], [True, True], 0.5),
    ],
)
def test_the_calibration_error_is_what_was_said_against_what_happened(
    said: Sequence[float], good: Sequence[bool], error: float
) -> None:
    assert measure_calibration_error(np.array(said), np.array(good)) == pytest.approx(error)


def test_lost_is_a_sign_that_a_mask_is_not_good() -> None:
    found = measure_quality([GOOD, observation(lost=True), BAD, observation(iou=0.1, lost=True)])
    assert (found.frames, found.not_good, found.precision, found.recall) == (4, 2, 0.5, 0.5)


def test_where_nothing_is_lost_there_is_no_precision() -> None:
    assert np.isnan(measure_quality([GOOD]).precision)
    assert np.isnan(measure_quality([GOOD]).recall)


def test_an_object_is_watched_from_its_first_mask(toy_folder: Path) -> None:
    runtime = GraphRuntime(toy_folder, "toy", threads=1)
    numbers = range(5)
    images = [scene.png(number) for number in numbers]
    masks = [scene.labels(number) for number in numbers]
    images[4] = scene.encode(np.full((scene.HEIGHT, scene.WIDTH, 3), 128, np.uint8), ".png")
    masks[4] = np.zeros_like(masks[4])
    said = observe_object(runtime, images, masks, gate=False)
    assert [each.frame for each in said] == [1, 2, 3, 4]
    assert all(each.good and not each.lost for each in said[:3])
    assert (said[3].away, said[3].lost, said[3].iou, said[3].features) == (True, True, 1.0, None)
