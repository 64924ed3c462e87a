"""Looks: what a look changes, and that no look changes nothing."""

import numpy as np
import pytest

from model.data.augment import (
    Glare,
    Look,
    add_noise,
    compress,
    draw_color,
    draw_exposure,
    draw_look,
    finish,
    motion_kernel,
    recolor,
    shine,
)
from tests.model.data.drawings import draw_picture


def test_a_look_of_no_strength_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    look = draw_look(rng, frames=3, strength=0.0)
    assert (finish(draw_picture(0), look, 2, rng) == draw_picture(0)).all()


def test_colors_drift_steadily() -> None:
    color = draw_color(np.random.default_rng(0), frames=5, start=0.5, drift=1.0)
    steps = np.abs(np.diff(color[..., 3], axis=0)).sum(axis=1)
    assert color.shape == (5, 3, 4)
    assert steps == pytest.approx(steps.mean(), rel=0.3)


def test_a_color_map_clips_rather_than_wraps() -> None:
    brighter = np.concatenate([np.eye(3), np.full((3, 1), 300.0)], axis=1)
    assert (recolor(draw_picture(0), brighter) == 255).all()


def test_noise_has_the_deviation_asked_for() -> None:
    gray = np.full((128, 128, 3), 128, np.uint8)
    noisy = add_noise(gray, 6.0, np.random.default_rng(0))
    assert noisy.astype(float).std() == pytest.approx(6.0, rel=0.1)


def test_compression_keeps_the_picture_recognizable() -> None:
    picture = draw_picture(0)
    difference = np.abs(compress(picture, 30).astype(int) - picture.astype(int))
    assert 0 < difference.mean() < 25


def test_every_part_of_a_look_is_applied() -> None:
    color = np.tile(np.eye(3, 4), (2, 1, 1))
    picture, plain = draw_picture(0), Look(color)
    assert (finish(picture, plain, 1, np.random.default_rng(0)) == picture).all()
    glare = Glare(np.full((2, 2), 0.5), radius=0.2, height=100.0)
    shakes = np.array([[0.0, 0.0], [9.0, 0.0]])
    for look in (
        Look(color, jpeg_quality=30),
        Look(color, noise=5.0),
        Look(color, softness=1.5),
        Look(color, scale=0.5),
        Look(color, glare=glare),
        Look(color, shakes=shakes),
    ):
        assert (finish(picture, look, 1, np.random.default_rng(0)) != picture).any()


def test_what_is_soft_or_was_small_has_less_detail() -> None:
    rng, color = np.random.default_rng(0), np.tile(np.eye(3, 4), (1, 1, 1))
    picture = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for look in (Look(color, softness=1.5), Look(color, scale=0.4)):
        blurred = finish(picture, look, 0, rng)
        assert blurred.shape == picture.shape
        assert blurred.std() < 0.7 * picture.std()


def test_glare_is_brightest_at_its_center_and_clips() -> None:
    dark, bright = np.full((40, 40, 3), 20, np.uint8), np.full((40, 40, 3), 250, np.uint8)
    glare = Glare(np.array([[0.25, 0.5]]), radius=0.1, height=200.0)
    lit = shine(dark, glare, 0)
    assert lit[20, 10, 0] == 220
    assert lit[20, 39, 0] == 20
    assert shine(bright, glare, 0).min() == 250


def test_exposure_begins_as_it_was_and_stays_in_bounds() -> None:
    rng = np.random.default_rng(0)
    gains = np.stack([draw_exposure(rng, frames=9) for _ in range(100)])
    assert (gains[:, 0] == 1).all()
    assert 0.4 < gains.min() < 0.7
    assert 1.2 < gains.max() < 1.6


def test_a_camera_does_not_shake_in_the_first_frame() -> None:
    for seed in range(200):
        look = draw_look(np.random.default_rng(seed), frames=5, strength=1.0)
        if look.shakes is not None:
            assert (look.shakes[0] == 0).all()
            assert "shaken" in look.traits


def test_a_blur_keeps_the_brightness_and_has_a_bound() -> None:
    kernel = motion_kernel(np.array([30.0, 40.0]), longest=12)
    assert kernel is not None
    assert kernel.sum() == pytest.approx(1.0)
    assert max(kernel.shape) <= 13


def test_what_hardly_moves_is_not_blurred() -> None:
    assert motion_kernel(np.array([0.5, 1.0]), longest=12) is None
