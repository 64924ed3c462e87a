"""From a box to a mask, on pictures of any size and content."""

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
from service.media.grabcut import segment_box
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
