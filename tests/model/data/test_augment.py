"""Looks: what a look changes, and that no look changes nothing."""

import numpy as np
import pytest

from model.data.augment import (
    Look,
    add_noise,
    compress,
    draw_colour,
    draw_look,
    finish,
    motion_kernel,
    recolour,
)
from tests.model.data.drawings import draw_picture


def test_a_look_of_no_strength_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(rng, frames=3, strength=0.0)
    assert (finish(draw_picture(0), look, 2, rng) == draw_picture(0)).all()


def test_colours_drift_steadily() -> None:
    colour = draw_colour(np.random.default_rng(0), frames=5, start=0.5, drift=1.0)
    steps = np.abs(np.diff(colour[..., 3], axis=0)).sum(axis=1)
    assert colour.shape == (5, 3, 4)
    assert steps == pytest.approx(steps.mean(), rel=0.3)


def test_a_colour_map_clips_rather_than_wraps() -> None:
    brighter = np.concatenate([np.eye(3), np.full((3, 1), 300.0)], axis=1)
    assert (recolour(draw_picture(0), brighter) == 255).all()


def test_noise_has_the_deviation_asked_for() -> None:
    gray = np.full((128, 128, 3), 128, np.uint8)
    noisy = add_noise(gray, 6.0, np.random.default_rng(0))
    assert noisy.astype(float).std() == pytest.approx(6.0, rel=0.1)


def test_compression_keeps_the_picture_recognisable() -> None:
    picture = draw_picture(0)
    difference = np.abs(compress(picture, 30).astype(int) - picture.astype(int))
    assert 0 < difference.mean() < 25


def test_every_part_of_a_look_is_applied() -> None:
    colour = np.tile(np.eye(3, 4), (2, 1, 1))
    picture, plain = draw_picture(0), Look(colour, None, 0.0, 0.0)
    assert (finish(picture, plain, 1, np.random.default_rng(0)) == picture).all()
    for look in (Look(colour, 30, 0.0, 0.0), Look(colour, None, 5.0, 0.0)):
        assert (finish(picture, look, 1, np.random.default_rng(0)) != picture).any()
    soft = finish(picture, Look(colour, None, 0.0, 1.5), 1, np.random.default_rng(0))
    assert soft.astype(int).std() < picture.astype(int).std()


def test_a_blur_keeps_the_brightness_and_has_a_bound() -> None:
    kernel = motion_kernel(np.array([30.0, 40.0]), longest=12)
    assert kernel is not None
    assert kernel.sum() == pytest.approx(1.0)
    assert max(kernel.shape) <= 13


def test_what_hardly_moves_is_not_blurred() -> None:
    assert motion_kernel(np.array([0.5, 1.0]), longest=12) is None
