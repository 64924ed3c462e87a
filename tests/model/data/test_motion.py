"""Paths and waves: where they begin, what they reach, and that pictures stay whole."""

import numpy as np
import pytest

from model.data.motion import (
    Pace,
    apply,
    covering,
    draw_absence,
    draw_path,
    draw_shifts,
    draw_wave,
    map_sources,
    mirrored,
    reach,
)

SIZE = 64
WHOLE = (0, 0, SIZE, SIZE)


def test_a_path_begins_at_rest() -> None:
    rng = np.random.default_rng(0)
    pivot = np.array([20.0, 30.0])
    shifts = draw_shifts(rng, frames=5, start=pivot, size=SIZE, speed=3.0)
    path = draw_path(rng, shifts, pivot=pivot, pace=Pace(turn=0.1, growth=0.1, shear=0.1))
    assert path.shape == (5, 3, 3)
    assert path[0] == pytest.approx(np.eye(3))
    assert apply(path[3], pivot) == pytest.approx(pivot + shifts[3])


def absences(frames: int) -> list[list[bool]]:
    """In which frames something of radius 10 lies wholly outside, for several draws."""
    rng = np.random.default_rng(0)
    start = np.array([32.0, 32.0])
    drawn = []
    for _ in range(50):
        shifts, scales = draw_absence(rng, frames=frames, start=start, size=SIZE, radius=10.0)
        assert shifts[0] == pytest.approx([0.0, 0.0])
        assert scales[0] == 1.0
        places = start + shifts
        drawn.append([bool(((at < -10) | (at > SIZE + 10)).any()) for at in places])
    return drawn


def test_what_leaves_is_gone_for_up_to_half_the_frames_and_comes_back() -> None:
    drawn = absences(frames=11)
    for gone in drawn:
        assert not gone[0]
        assert not gone[-1]
    assert {sum(gone) for gone in drawn} == {1, 2, 3, 4, 5}


def test_what_leaves_may_come_back_elsewhere_at_another_size() -> None:
    rng, start = np.random.default_rng(0), np.array([32.0, 32.0])
    drawn = [draw_absence(rng, frames=9, start=start, size=SIZE, radius=5) for _ in range(20)]
    assert np.std([scales[-1] for _, scales in drawn]) > 0.1
    assert np.std([shifts[-1] for shifts, _ in drawn], axis=0).min() > 5


@pytest.mark.parametrize("frames", [1, 2, 3, 4])
def test_a_short_clip_can_be_left_too(frames: int) -> None:
    assert [len(gone) for gone in absences(frames)] == [frames] * 50


def test_mirroring_twice_changes_nothing() -> None:
    twice = mirrored(mirrored(np.eye(3), size=SIZE), size=SIZE)
    assert twice == pytest.approx(np.eye(3))


def test_what_a_moving_clip_sees_is_bounded_by_its_corners() -> None:
    path = np.tile(np.eye(3), (2, 1, 1))
    path[1, :2, 2] = [-10.0, 5.0]
    least, most = reach(path, size=SIZE)
    assert least == pytest.approx([0.0, -5.0])
    assert most == pytest.approx([SIZE + 10.0, SIZE])


def test_a_picture_covers_a_clip_that_moves() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        shifts = rng.normal(0.0, 4.0, size=(5, 2))
        pace = Pace(turn=0.02, growth=0.02, shear=0.0)
        motion = draw_path(rng, shifts, pivot=np.full(2, SIZE / 2), pace=pace)
        place = np.diag([1.2, 1.2, 1.0])
        place[:2, 2] = rng.uniform(-40.0, 20.0, size=2)
        mended = covering(place, motion, (96, 72), size=SIZE)
        least, most = reach(motion @ mended, size=SIZE)
        assert (least >= -1e-6).all()
        assert (most <= np.array([96.0, 72.0]) + 1e-6).all()


def test_a_picture_that_covers_its_clip_stays_where_it_is() -> None:
    place = np.array([[2.0, 0.0, -20.0], [0.0, 2.0, -30.0], [0.0, 0.0, 1.0]])
    motion = np.tile(np.eye(3), (3, 1, 1))
    assert covering(place, motion, (96, 72), size=SIZE) == pytest.approx(place)


def test_a_wave_begins_flat() -> None:
    wave = draw_wave(np.random.default_rng(0), extent=20.0, strength=1.0)
    still = map_sources(np.eye(3), wave, 0, window=WHOLE)
    xs, ys = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    assert still == pytest.approx(np.stack([xs, ys], axis=-1), abs=1e-3)
    moved = np.abs(map_sources(np.eye(3), wave, 3, window=WHOLE) - still).max()
    assert 0.2 < moved <= wave.reach


def test_a_window_shows_a_part_of_the_whole_map() -> None:
    wave = draw_wave(np.random.default_rng(0), extent=30.0, strength=1.0)
    whole = map_sources(np.eye(3), wave, 2, window=WHOLE)
    part = map_sources(np.eye(3), wave, 2, window=(16, 24, 20, 30))
    assert part == pytest.approx(whole[24:54, 16:36], abs=1e-4)


def test_a_wave_does_not_fold_the_picture() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        wave = draw_wave(rng, extent=20.0, strength=1.5)
        points = map_sources(np.eye(3), wave, 5, window=WHOLE)
        along_x, along_y = np.diff(points, axis=1)[:-1], np.diff(points, axis=0)[:, :-1]
        area = along_x[..., 0] * along_y[..., 1] - along_x[..., 1] * along_y[..., 0]
        assert (area > 0).mean() > 0.97
