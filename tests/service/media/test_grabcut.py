"""From clicks, strokes, boxes and polygons to a mask, on pictures of any size and content."""

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.core.j_and_f import jaccard
from service.errors import BadOption, NoObjects
from service.media.prompts import Prompt, Touch, segment_prompt
from service.media.sample import draw_sample


def disc(height: int, width: int, *, radius: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A bright disc on a dark, noisy floor, and its mask."""
    random = np.random.default_rng(1)
    rgb = random.integers(20, 60, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), radius, 1, thickness=-1)
    rgb[mask == 1] += 150
    return rgb, mask == 1


def box_of(mask: NDArray[np.bool_], *, margin: int) -> list[float]:
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return [x - margin, y - margin, width + 2 * margin, height + 2 * margin]


def segment_box(rgb: NDArray[np.uint8], box: list[float]) -> NDArray[np.bool_]:
    return segment_prompt(rgb, Prompt(box=box)).mask


def two_discs() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """A red and a blue disc on a dark, noisy floor, and their masks."""
    rgb = np.random.default_rng(1).integers(20, 60, (120, 160, 3), dtype=np.uint8)
    masks = []
    for channel, x in ((0, 45), (2, 110)):
        mask = np.zeros((120, 160), np.uint8)
        cv2.circle(mask, (x, 60), 25, 1, thickness=-1)
        rgb[mask == 1, channel] += 150
        masks.append(mask == 1)
    return rgb, masks[0], masks[1]


def test_a_click_finds_the_object_that_is_touched() -> None:
    rgb, red, blue = two_discs()
    for x, truth in ((45, red), (110, blue)):
        found = segment_prompt(rgb, Prompt([Touch([(x, 60)])]))
        assert jaccard(found.mask, truth) > 0.95
        assert (found.parts, found.warnings) == (1, ())
        assert found.score > 0.5


def test_a_second_click_adds_and_one_on_something_else_takes_away() -> None:
    rgb, red, blue = two_discs()
    touches = [Touch([(45, 60)]), Touch([(110, 60)])]
    both = segment_prompt(rgb, Prompt(touches))
    assert jaccard(both.mask, red | blue) > 0.95
    assert both.parts == 2
    assert "in 2 pieces" in both.warnings[0]
    spared = [Touch([(45, 60)], wanted=False)]
    assert jaccard(segment_prompt(rgb, Prompt(spared, previous=both.mask)).mask, blue) > 0.9
    # What the touches say already changes nothing.
    again = segment_prompt(rgb, Prompt(touches, previous=both.mask))
    assert np.array_equal(again.mask, both.mask)


def test_a_stroke_over_several_colors_finds_all_of_them() -> None:
    rgb, mask = disc(120, 160, radius=30)
    rgb[:60][mask[:60]] = (200, 30, 30)
    rgb[60:][mask[60:]] = (30, 200, 30)
    stroke = Touch([(80, 38), (80, 60), (80, 82)])
    assert jaccard(segment_prompt(rgb, Prompt([stroke])).mask, mask) > 0.9


def test_a_rough_polygon_snaps_to_the_object() -> None:
    rgb, mask = disc(120, 160, radius=30)
    polygon = [80.0, 26, 106, 44, 108, 78, 80, 94, 52, 78, 52, 42]
    assert jaccard(segment_prompt(rgb, Prompt(polygon=polygon)).mask, mask) > 0.95


def test_a_tiny_outline_is_warned_of() -> None:
    rgb, _ = disc(480, 640, radius=3)
    found = segment_prompt(rgb, Prompt(box=[310, 230, 20, 20]))
    assert found.mask.sum() < 40
    assert "tiny" in found.warnings[0]


@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(),
        Prompt([Touch([(900, 5)])]),
        Prompt([Touch([(5, 5)])] * 33),
        Prompt(polygon=[1, 2, 3]),
        Prompt(box=[4, 4, 9, 9], previous=np.zeros((2, 2), np.bool_)),
    ],
)
def test_a_prompt_that_is_none_is_refused(prompt: Prompt) -> None:
    with pytest.raises(BadOption):
        segment_prompt(disc(120, 160, radius=30)[0], prompt)


def test_what_stands_out_in_the_box_is_found() -> None:
    rgb, mask = disc(120, 160, radius=30)
    assert jaccard(segment_box(rgb, box_of(mask, margin=5)), mask) > 0.97


def test_a_photograph_is_cut_out() -> None:
    rgb, labels = next(draw_sample())
    assert jaccard(segment_box(rgb, box_of(labels > 0, margin=6)), labels > 0) > 0.97


def test_the_mask_stays_inside_of_the_box() -> None:
    rgb, mask = disc(120, 160, radius=30)
    found = segment_box(rgb, [52, 32, 60, 60])
    assert jaccard(found, mask) > 0.9
    assert not found[:, :52].any()
    assert not found[92:].any()


def test_equal_pictures_give_equal_masks() -> None:
    rgb, mask = disc(120, 160, radius=30)
    box = box_of(mask, margin=20)
    assert np.array_equal(segment_box(rgb, box), segment_box(rgb, box))


def test_a_large_picture_takes_little_longer_than_a_small_one() -> None:
    rgb, mask = disc(3000, 4000, radius=1000)
    begun_s = time.thread_time()
    found = segment_box(rgb, box_of(mask, margin=100))
    assert time.thread_time() - begun_s < 3
    assert jaccard(found, mask) > 0.97


def test_a_box_that_fills_the_picture_is_cut_too() -> None:
    rgb, mask = disc(120, 160, radius=40)
    assert jaccard(segment_box(rgb, [0, 0, 160, 120]), mask) > 0.95


def test_where_nothing_stands_out_there_is_no_mask() -> None:
    with pytest.raises(NoObjects):
        segment_box(np.full((60, 80, 3), 128, np.uint8), [20, 20, 30, 20])
    with pytest.raises(NoObjects):
        segment_prompt(np.full((60, 80, 3), 128, np.uint8), Prompt([Touch([(30, 30)])]))


@pytest.mark.parametrize(
    "box", [[500, 0, 10, 10], [0, 0, 0, 5], [0, 0, 5, -1], [1, 2, 3], [0, 0, 1e12, 5]]
)
def test_a_box_that_is_none_is_refused(box: list[float]) -> None:
    with pytest.raises(BadOption, match="box"):
        segment_box(disc(120, 160, radius=30)[0], box)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    box=st.tuples(*[st.floats(-10, 50)] * 2, *[st.floats(0.1, 60)] * 2),
    seed=st.integers(0, 3),
)
def test_any_small_picture_gives_a_mask_or_a_refusal(
    height: int, width: int, box: tuple[float, ...], seed: int
) -> None:
    random = np.random.default_rng(seed)
    rgb = random.integers(0, 1 + 85 * seed, (height, width, 3), dtype=np.uint8)
    try:
        found = segment_box(rgb, list(box))
    except (BadOption, NoObjects):
        return
    assert found.shape == (height, width)
    assert found.any()
