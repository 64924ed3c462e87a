"""J and F, by hand and against the toolkit's definitions."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from model.core.j_and_f import SequenceScores, Statistics, boundary, boundary_f, jaccard

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
Mask = NDArray[np.bool_]


def square(size: tuple[int, int], top: int, left: int, side: int) -> Mask:
    mask = np.zeros(size, dtype=np.bool_)
    mask[top : top + side, left : left + side] = True
    return mask


def toolkit_boundary(mask: Mask) -> Mask:
    """`_seg2bmap` of the DAVIS toolkit, for maps of the mask's own size."""
    seg = mask.astype(np.uint8)
    e, s, se = np.zeros_like(seg), np.zeros_like(seg), np.zeros_like(seg)
    e[:, :-1] = seg[:, 1:]
    s[:-1, :] = seg[1:, :]
    se[:-1, :-1] = seg[1:, 1:]
    b = (seg ^ e) | (seg ^ s) | (seg ^ se)
    b[-1, :] = seg[-1, :] ^ e[-1, :]
    b[:, -1] = seg[:, -1] ^ s[:, -1]
    b[-1, -1] = 0
    return np.asarray(b, dtype=np.bool_)


def toolkit_f(pred: Mask, true: Mask, *, radius: int) -> float:
    """`f_measure` of the DAVIS toolkit, by dilation."""
    pred_edge, true_edge = toolkit_boundary(pred), toolkit_boundary(true)
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = (x**2 + y**2 <= radius**2).astype(np.uint8)  # scikit-image's `disk`
    pred_wide = cv2.dilate(pred_edge.astype(np.uint8), kernel)
    true_wide = cv2.dilate(true_edge.astype(np.uint8), kernel)
    n_pred, n_true = pred_edge.sum(), true_edge.sum()
    if n_pred == 0 or n_true == 0:
        precision, recall = float(n_pred == 0), float(n_true == 0)
    else:
        precision = float((pred_edge * true_wide).sum() / n_pred)
        recall = float((true_edge * pred_wide).sum() / n_true)
    if precision + recall == 0:
        return 0.0
    return 2 * precision * recall / (precision + recall)


@st.composite
def mask_pairs(draw: st.DrawFn) -> tuple[Mask, Mask]:
    shape = draw(SHAPES)
    return draw(hnp.arrays(np.bool_, shape)), draw(hnp.arrays(np.bool_, shape))


def test_j_is_intersection_over_union() -> None:
    # Squares of 4x4 = 16 that share 2x4 = 8: 8 / 24.
    assert jaccard(square((9, 9), 1, 1, 4), square((9, 9), 1, 3, 4)) == pytest.approx(1 / 3)


def test_j_of_nothing_and_nothing_is_1() -> None:
    nothing, something = square((9, 9), 0, 0, 0), square((9, 9), 1, 1, 4)
    assert jaccard(nothing, nothing) == 1
    assert jaccard(nothing, something) == jaccard(something, nothing) == 0


def test_the_boundary_lies_above_and_left_of_an_edge() -> None:
    assert boundary(square((5, 5), 2, 2, 2)).astype(int).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 0, 1, 0],
        [0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0],
    ]


@given(hnp.arrays(np.bool_, SHAPES))
def test_the_boundary_is_the_toolkits(mask: Mask) -> None:
    assert (boundary(mask) == toolkit_boundary(mask)).all()


def test_f_by_hand() -> None:
    # 60x80: the diagonal is 100, the tolerance 1 pixel. A square of side 4 has a boundary of 16
    # pixels on a square of side 5. Moved right by 2 pixels, the horizontal sides, 5 pixels each,
    # overlap: 3 pixels are common and 1 more is next to them. Of the vertical sides' other 3
    # pixels each (rows 1 to 3), the one on the outside is 2 away from everything and so is the
    # one on the inside, except where a horizontal side is next to it (rows 1 and 3).
    pred, true = square((60, 80), 20, 20, 4), square((60, 80), 20, 22, 4)
    horizontal, inside = 2 * (3 + 1), 2
    assert boundary_f(pred, true) == pytest.approx((horizontal + inside) / 16)


def test_f_forgives_what_is_within_the_tolerance() -> None:
    # 480x854: the diagonal is 979.7, the tolerance 8.
    true = square((480, 854), 100, 100, 200)
    assert math.ceil(0.008 * math.hypot(480, 854)) == 8
    assert boundary_f(np.roll(true, 8, axis=1), true) == 1
    assert boundary_f(np.roll(true, 9, axis=1), true) < 0.7


def test_f_without_boundaries() -> None:
    nothing, something = square((9, 9), 0, 0, 0), square((9, 9), 3, 3, 3)
    assert boundary_f(nothing, nothing) == 1
    assert boundary_f(nothing, something) == boundary_f(something, nothing) == 0
    assert boundary_f(~nothing, nothing) == 1  # a full frame has no boundary either


def test_f_of_boundaries_that_are_far_apart_is_0() -> None:
    assert boundary_f(square((60, 80), 0, 0, 5), square((60, 80), 40, 60, 5)) == 0


@given(mask_pairs())
def test_f_is_the_toolkits_on_small_masks(pair: tuple[Mask, Mask]) -> None:
    assert boundary_f(*pair) == pytest.approx(toolkit_f(*pair, radius=1), abs=1e-12)


@pytest.mark.parametrize("shift", [0, 3, 8, 20])
def test_f_is_the_toolkits_at_480p(shift: int, blob: Mask) -> None:
    true = np.zeros((480, 854), dtype=np.bool_)
    true[120:, 214:] = blob
    pred = np.roll(true, (shift, -shift), axis=(0, 1))
    pred[5:40, 5:60] = True
    assert boundary_f(pred, true) == pytest.approx(toolkit_f(pred, true, radius=8), abs=1e-12)


def test_masks_of_different_sizes_are_not_compared() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        jaccard(square((4, 4), 0, 0, 1), square((4, 5), 0, 0, 1))
    with pytest.raises(ValueError, match="cannot be compared"):
        boundary_f(square((4, 4), 0, 0, 1), square((4, 5), 0, 0, 1))


def test_statistics_by_hand() -> None:
    # Nine frames: the quarters are frames 0-2, 2-4, 4-6, 6-8.
    values = [0.9, 0.9, 0.9, 0.8, 0.8, 0.8, 0.5, 0.3, 0.1]
    statistics = Statistics.of(values)
    assert statistics.mean == pytest.approx(6.0 / 9)
    assert statistics.recall == pytest.approx(6 / 9)  # 0.5 is not above 0.5
    assert statistics.decay == pytest.approx(0.9 - 0.3)


@given(st.integers(1, 700))
def test_the_quarters_of_long_sequences_are_not_cut_at_256(frames: int) -> None:
    values = np.linspace(0, 1, frames).tolist()
    assert -1 <= Statistics.of(values).decay <= 0
    if frames > 40:
        assert Statistics.of(values).decay == pytest.approx(-0.75, abs=0.03)


def test_the_first_and_the_last_frame_do_not_count() -> None:
    good, wrong = square((20, 20), 2, 2, 9), square((20, 20), 15, 15, 4)
    scores = SequenceScores.of([wrong, good, good, wrong], [good] * 4)
    assert scores.j_frames == scores.f_frames == (1.0, 1.0)
    assert scores.j_and_f == 1


def test_j_tr_is_the_mean_over_the_last_quarter() -> None:
    scores = SequenceScores(j_frames=(1, 1, 1, 1, 1, 1, 0.4, 0.2), f_frames=(1,) * 8)
    assert scores.j_tr == pytest.approx(0.3)
    assert SequenceScores(j_frames=(1, 0.5, 0.1), f_frames=(1,) * 3).j_tr == pytest.approx(0.1)


def test_j_and_f_is_the_mean_of_both() -> None:
    scores = SequenceScores(j_frames=(0.5, 0.7), f_frames=(0.8, 1.0))
    assert scores.j_and_f == pytest.approx(0.75)
    assert scores.j.mean == pytest.approx(0.6)
    assert scores.f.mean == pytest.approx(0.9)


def test_a_sequence_needs_frames_that_count_and_a_truth_for_each() -> None:
    mask = square((9, 9), 1, 1, 3)
    with pytest.raises(ValueError, match="no frames"):
        _ = SequenceScores.of([mask] * 2, [mask] * 2).j
    with pytest.raises(ValueError, match="longer"):
        SequenceScores.of([mask] * 3, [mask] * 4)
