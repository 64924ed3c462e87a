"""Made-up clips: what moves, what covers what, and masks that stay on their object."""

from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from model.data.layers import Cutout, Layer, cut_out, fill_hole, first_mask, render, soften
from model.data.motion import (
    Pace,
    apply,
    draw_excursion,
    draw_path,
    draw_shifts,
    draw_wave,
    mirrored,
    source_map,
)
from model.data.static import Still
from model.data.synthetic import make_clip
from tests.model.data.drawings import draw_labels, draw_picture

SIZE = 64
STILL_PATH = np.tile(np.eye(3), (4, 1, 1))


def square(*, left: int, top: int, side: int) -> NDArray[np.uint8]:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def plain(value: int) -> NDArray[np.uint8]:
    return np.full((SIZE, SIZE, 3), value, np.uint8)


def layer(item: Cutout, *, target: bool) -> Layer:
    mask = item.mask if target else None
    return Layer(item.image, soften(item.mask), mask, STILL_PATH, item.centre)


def backdrop(value: int) -> Layer:
    return Layer(plain(value), None, None, STILL_PATH, np.zeros(2))


def draw_painted(rng: np.random.Generator) -> Still:
    """A picture whose only object is bright on dark."""
    labels = (draw_labels() == 1).astype(np.uint8)
    return Still(np.where(labels[..., None], 235, 15).astype(np.uint8).repeat(3, axis=2), labels)


def test_a_path_begins_at_rest() -> None:
    rng = np.random.default_rng(0)
    pivot = np.array([20.0, 30.0])
    shifts = draw_shifts(rng, frames=5, start=pivot, size=SIZE, speed=3.0)
    path = draw_path(rng, shifts, pivot=pivot, pace=Pace(turn=0.1, growth=0.1, shear=0.1))
    assert path.shape == (5, 3, 3)
    assert path[0] == pytest.approx(np.eye(3))
    assert apply(path[3], pivot) == pytest.approx(pivot + shifts[3])


def test_an_excursion_leaves_the_picture() -> None:
    rng = np.random.default_rng(0)
    start = np.array([32.0, 32.0])
    for _ in range(20):
        shifts = draw_excursion(rng, frames=9, start=start, size=SIZE, radius=10.0)
        places = start + shifts
        assert places[0] == pytest.approx(start)
        assert ((places < 0) | (places > SIZE)).any()
        assert np.abs(shifts[-1]).max() < np.abs(shifts).max()


def test_mirroring_twice_changes_nothing() -> None:
    twice = mirrored(mirrored(np.eye(3), size=SIZE), size=SIZE)
    assert twice == pytest.approx(np.eye(3))


def test_a_wave_begins_flat() -> None:
    wave = draw_wave(np.random.default_rng(0), extent=20.0, strength=1.0)
    still = source_map(np.eye(3), wave, 0, size=SIZE)
    xs, ys = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    assert still == pytest.approx(np.stack([xs, ys], axis=-1), abs=1e-3)
    assert np.abs(source_map(np.eye(3), wave, 3, size=SIZE) - still).max() > 0.2


def test_a_wave_does_not_fold_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        wave = draw_wave(rng, extent=20.0, strength=1.5)
        points = source_map(np.eye(3), wave, 5, size=SIZE)
        along_x, along_y = np.diff(points, axis=1)[:-1], np.diff(points, axis=0)[:, :-1]
        area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
        assert (area > 0).mean() > 0.97


def test_a_filled_hole_looks_like_its_surroundings() -> None:
    image, hole = plain(90), square(left=20, top=20, side=24)
    image[hole == 1] = 255
    assert np.abs(fill_hole(image, hole).astype(int) - 90).max() <= 1


def test_filling_leaves_the_rest_alone() -> None:
    image, hole = draw_picture(0), (draw_labels() == 1).astype(np.uint8)
    kept = hole == 0
    assert (fill_hole(image, hole)[kept] == image[kept]).all()


def test_a_picture_that_is_all_hole_is_filled_with_something() -> None:
    assert fill_hole(plain(9), np.ones((SIZE, SIZE), np.uint8)).shape == (SIZE, SIZE, 3)


def test_a_cutout_knows_its_measures() -> None:
    item = cut_out(plain(0), square(left=10, top=20, side=9))
    assert item.centre == pytest.approx([14, 24])
    assert item.extent == 9
    assert not item.cropped
    assert cut_out(plain(0), square(left=0, top=0, side=9)).cropped


def test_a_layer_covers_what_is_below() -> None:
    below = cut_out(plain(100), square(left=10, top=10, side=20))
    above = cut_out(plain(200), square(left=20, top=10, side=20))
    layers = [backdrop(50), layer(below, target=True), layer(above, target=False)]
    image, mask = render(layers, 0, size=SIZE)
    assert (image[20, 5], image[20, 14], image[20, 30]) == pytest.approx((50, 100, 200))
    assert mask[20, 14] == 1
    assert mask[20, 30] == mask[20, 5] == 0
    seen, whole = first_mask(layers, size=SIZE)
    assert 0 < seen.sum() < whole.sum()


def test_a_target_above_hides_nothing_of_its_mask() -> None:
    below = cut_out(plain(200), square(left=20, top=10, side=20))
    above = cut_out(plain(100), square(left=10, top=10, side=20))
    layers = [backdrop(50), layer(below, target=False), layer(above, target=True)]
    _, mask = render(layers, 0, size=SIZE)
    assert mask[20, 28] == 1


def test_masks_follow_a_moving_bending_object() -> None:
    """A bright object on dark ground is bright exactly where its mask says so."""
    agreements = []
    for seed in range(40):
        clip = make_clip(draw_painted, np.random.default_rng(seed), size=SIZE, frames=4)
        if clip is not None:
            bright = clip[0].mean(axis=-1) > 125
            # An occluder is as bright as the object: only dark pixels can tell.
            agreements.append((bright | (clip[1] == 0)).mean())
    assert len(agreements) >= 20
    assert np.median(agreements) > 0.98


def test_a_picture_without_objects_gives_no_clip() -> None:
    empty = partial(Still, draw_picture(0), np.zeros_like(draw_labels()))
    assert make_clip(lambda _: empty(), np.random.default_rng(0), size=SIZE, frames=3) is None
