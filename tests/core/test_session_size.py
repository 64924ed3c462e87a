"""At which size the model sees a session, by the width of its thinnest object."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.session_size import (
    choose_short_side,
    count_most_objects,
    list_short_sides,
    measure_least_width,
    measure_width,
    size_at,
)
from tests.core.test_contract import SPEC

FINE = replace(SPEC, fine_short_sides=(384, 512), fine_below_px=12.0)
FRAME = (480, 854)


def strip(width: int, *, length: int = 300, at: int = 10) -> NDArray[np.bool_]:
    mask = np.zeros(FRAME, bool)
    mask[at : at + width, 20 : 20 + length] = True
    return mask


@pytest.mark.parametrize("width", [2, 6, 20, 61])
def test_a_strip_is_as_wide_as_it_is(width: int) -> None:
    # A pixel's distance is to the nearest center outside, so half a pixel is added on either side.
    assert measure_width(strip(width)) == pytest.approx(width + 2, abs=0.35 * width)


def test_a_disk_counts_two_thirds_of_its_diameter() -> None:
    disk = cv2.circle(np.zeros(FRAME, np.uint8), (400, 200), 60, 1, cv2.FILLED) > 0
    assert measure_width(disk) == pytest.approx(2 / 3 * 121, rel=0.05)


def test_neither_its_place_nor_the_border_of_the_frame_changes_a_width() -> None:
    assert (
        measure_width(strip(9, at=0)) == measure_width(strip(9, at=471)) == measure_width(strip(9))
    )


@pytest.mark.parametrize(("width", "measured"), [(1100, 1000), (300, 300), (60, 60), (1, 4)])
def test_a_large_mask_is_measured_by_some_of_its_pixels(width: int, measured: int) -> None:
    mask = np.zeros((4096, 4096), bool)
    mask[11 : 11 + width, 1:4096] = True
    assert measure_width(mask) == pytest.approx(measured, rel=0.15)


def test_lines_that_some_pixels_would_miss_are_measured_by_all() -> None:
    lines = np.zeros((4096, 4096), bool)
    lines[3::7] = True  # of its rows every seventh would be measured: those that hold the lines
    assert measure_width(lines) == pytest.approx(4)


def test_the_thinnest_object_counts_and_one_without_a_pixel_does_not() -> None:
    masks = [strip(30), strip(6), np.zeros(FRAME, bool)]
    assert measure_least_width(masks) == measure_width(strip(6))
    assert measure_least_width(masks[2:]) == 0.0


@pytest.mark.parametrize(
    ("width_px", "side"),
    [(40.0, 256), (22.6, 256), (22.4, 384), (15.1, 384), (14.9, 512), (1.0, 512)],
)
def test_the_first_side_is_taken_at_which_the_thinnest_object_is_wide_enough(
    width_px: float, side: int
) -> None:
    assert choose_short_side(FINE, FRAME, width_px, objects=2) == side
    assert choose_short_side(FINE, FRAME[::-1], width_px, objects=2) == side
    assert choose_short_side(SPEC, FRAME, width_px, objects=2) == 256


def test_many_objects_are_seen_no_larger_than_there_is_room_for() -> None:
    assert [count_most_objects(FINE, side) for side in (256, 384, 512)] == [32, 14, 8]
    sides = [choose_short_side(FINE, FRAME, 1.0, objects=count) for count in (8, 9, 14, 15, 32)]
    assert sides == [512, 384, 384, 256, 256]


def test_a_model_s_own_size_has_room_for_all_however_it_is_rounded() -> None:
    odd = replace(FINE, short_side=250)
    assert [count_most_objects(odd, side) for side in (250, 256)] == [32, 32]


def test_an_operator_s_bound_leaves_out_what_is_above_it() -> None:
    assert list_short_sides(FINE, most=400) == (256, 384)
    assert choose_short_side(FINE, FRAME, 1.0, objects=1, most=400) == 384
    # The model's own is always served.
    assert choose_short_side(FINE, FRAME, 1.0, objects=1, most=100) == 256


def test_a_side_makes_a_size_of_the_frame_s_aspect() -> None:
    assert size_at(FINE, FRAME, 512) == (512, 896)
    assert size_at(FINE, FRAME[::-1], 384) == (672, 384)
