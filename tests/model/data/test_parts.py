"""Parts: together they are the object at first, and later each goes its own way."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.layers import Cutout, cut_out
from model.data.motion import apply
from model.data.parts import Part, hinge, split
from tests.model.data.drawings import plain

SIZE, FRAMES = 64, 6
Cut = Callable[..., tuple[Part, ...]]


def bar() -> NDArray[np.uint8]:
    """A bar, twice as long as wide."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[12:52, 22:42] = 1
    return mask


def pieces(cut: Cut) -> list[tuple[Part, ...]]:
    """What several draws gave, those that missed left out."""
    item: Cutout = cut_out(plain(9), bar())
    drawn = [cut(item, np.random.default_rng(seed), frames=FRAMES) for seed in range(40)]
    return [parts for parts in drawn if parts]


@pytest.mark.parametrize("cut", [split, hinge])
def test_most_draws_cut_the_object_in_two(cut: Cut) -> None:
    found = pieces(cut)
    assert len(found) >= 30
    assert {len(parts) for parts in found} == {2}


@pytest.mark.parametrize("cut", [split, hinge])
def test_the_parts_are_the_object_and_overlap_a_little(cut: Cut) -> None:
    for one, other in pieces(cut):
        assert ((one.mask | other.mask) == bar()).all()
        assert 0 < (one.mask & other.mask).sum() < 0.6 * bar().sum()


@pytest.mark.parametrize("cut", [split, hinge])
def test_parts_begin_together(cut: Cut) -> None:
    for parts in pieces(cut):
        for part in parts:
            assert part.path[0] == pytest.approx(np.eye(3))


def test_halves_move_apart() -> None:
    gaps = []
    for one, other in pieces(split):
        middle = np.array([32.0, 32.0])
        gaps.append(np.hypot(*(apply(one.path[-1], middle) - apply(other.path[-1], middle))))
    assert np.median(gaps) > 5


def test_a_limb_turns_while_the_trunk_stays() -> None:
    for parts in pieces(hinge):
        turned = [np.abs(part.path[1:, :2, :2] - np.eye(2)).max() > 1e-3 for part in parts]
        assert sorted(turned) == [False, True]
        assert np.linalg.det(parts[turned.index(True)].path[-1]) == pytest.approx(1.0)


def test_an_object_of_one_pixel_is_not_cut() -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[5, 5] = 1
    speck = cut_out(plain(9), mask)
    assert hinge(speck, np.random.default_rng(0), frames=FRAMES) == ()
