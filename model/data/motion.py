"""Smooth motion: affine paths over time, and waves that bend what they move.

Everything is in pixels of the clip. F frames; a path is (F, 3, 3), the identity in frame 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]  # (3, 3)
Path = NDArray[np.float64]  # (F, 3, 3)
Window = tuple[int, int, int, int]  # left, top, width, height in pixels of the clip
_CELL = 8  # the bending map is computed every 8 pixels and interpolated


@dataclass(frozen=True, slots=True)
class Wave:
    """A bend that grows from none in frame 0: K travelling sine waves in source coordinates."""

    vectors: NDArray[np.float64]  # (K, 2) radians a source pixel
    pushes: NDArray[np.float64]  # (K, 2) source pixels
    phases: NDArray[np.float64]  # (K,)
    speeds: NDArray[np.float64]  # (K,) radians a frame

    @property
    def reach(self) -> float:
        """Return the farthest that it moves any point along an axis, in source pixels."""
        return 2.0 * float(np.abs(self.pushes).sum(axis=0).max())


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast things change from one frame to the next."""

    turn: float  # radians
    growth: float  # of the logarithm of the scale
    shear: float


def apply(matrix: Matrix, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return where the point (x, y) lands."""
    return np.asarray(matrix[:2, :2] @ point + matrix[:2, 2])


def mirrored(matrix: Matrix, *, size: int) -> Matrix:
    """Return `matrix`, then the clip of that side mirrored left to right."""
    return np.array([[-1.0, 0.0, size - 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix


def draw_scalar(rng: np.random.Generator, *, frames: int, rate: float) -> NDArray[np.float64]:
    """Return a smooth curve (F,), 0 at first: steady change, acceleration and a swing."""
    moments = np.arange(frames, dtype=np.float64)
    speed, bend = rng.normal(0.0, rate), rng.normal(0.0, rate / max(4, frames))
    period, phase = rng.uniform(6.0, 20.0), rng.uniform(0.0, 2 * np.pi)
    swing = rng.normal(0.0, rate) * period / (2 * np.pi)
    turn = 2 * np.pi * moments / period + phase
    return np.asarray(
        speed * moments + 0.5 * bend * moments**2 + swing * (np.sin(turn) - np.sin(phase))
    )


def reach(path: Path, *, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the least and the greatest (x, y) that a clip of that side sees through `path`."""
    corners = np.array([[0.0, 0.0, 1.0], [size, 0.0, 1.0], [0.0, size, 1.0], [size, size, 1.0]])
    seen = (np.linalg.inv(path) @ corners.T)[:, :2]  # (F, 2, 4)
    return seen.min(axis=(0, 2)), seen.max(axis=(0, 2))


def covering(place: Matrix, motion: Path, extent: tuple[int, int], *, size: int) -> Matrix:
    """Return `place` enlarged by up to a half and shifted, so that the picture fills the clip.

    `extent` is the picture's width and height; what still lacks is mirrored.
    """
    least, most = reach(motion, size=size)
    ends = np.stack([apply(place, np.array(corner)) for corner in ((0.0, 0.0), extent)])
    low, high = ends.min(axis=0), ends.max(axis=0)
    zoom = float(np.clip(((most - least) / (high - low)).max(), 1.0, 1.5))
    middle = (least + most) / 2
    # Grown about the middle of what is seen, then moved until its edges lie outside.
    low, high = middle + zoom * (low - middle), middle + zoom * (high - middle)
    shift = np.minimum(0.0, least - low) + np.maximum(0.0, most - high)
    shift = np.where(high - low < most - least, middle - (low + high) / 2, shift)
    mend = np.array(
        [[zoom, 0.0, (1 - zoom) * middle[0]], [0.0, zoom, (1 - zoom) * middle[1]], [0.0, 0.0, 1.0]]
    )
    mend[:2, 2] += shift
    return np.asarray(mend @ place)


def draw_path(
    rng: np.random.Generator, shifts: NDArray[np.float64], *, pivot: NDArray[np.float64], pace: Pace
) -> Path:
    """Draw a path with `shifts` (F, 2) that turns, grows and shears about `pivot` (x, y)."""
    frames = len(shifts)
    angle = draw_scalar(rng, frames=frames, rate=pace.turn)
    growth = 0.8 * np.tanh(draw_scalar(rng, frames=frames, rate=pace.growth) / 0.8)
    stretch = 0.3 * np.tanh(draw_scalar(rng, frames=frames, rate=pace.shear) / 0.3)
    shear = 0.4 * np.tanh(draw_scalar(rng, frames=frames, rate=pace.shear) / 0.4)
    path = np.tile(np.eye(3), (frames, 1, 1))
    cos, sin = np.cos(angle), np.sin(angle)
    wide, high = np.exp(growth + stretch), np.exp(growth - stretch)
    path[:, 0, 0], path[:, 0, 1] = wide * cos, high * (cos * shear - sin)
    path[:, 1, 0], path[:, 1, 1] = wide * sin, high * (sin * shear + cos)
    path[:, :2, 2] = pivot + shifts - path[:, :2, :2] @ pivot
    return path


def draw_shifts(
    rng: np.random.Generator, *, frames: int, start: NDArray[np.float64], size: int, speed: float
) -> NDArray[np.float64]:
    """Return shifts (F, 2) from `start` towards a random point of the picture, with a wobble."""
    goal = rng.uniform(0.05, 0.95, size=2) * size - start
    distance = float(np.hypot(*goal)) + 1e-6
    travel = min(distance, speed * (frames - 1)) / distance
    ease = np.linspace(0.0, 1.0, frames) ** rng.uniform(0.6, 1.7)
    wobble = [draw_scalar(rng, frames=frames, rate=0.25 * speed) for _ in range(2)]
    return ease[:, None] * goal * travel + np.stack(wobble, axis=1)


def draw_excursion(
    rng: np.random.Generator, *, frames: int, start: NDArray[np.float64], size: int, radius: float
) -> NDArray[np.float64]:
    """Return shifts (F, 2) that carry something of the given radius out of the picture and back."""
    axis, sign = int(rng.integers(2)), float(rng.choice([-1.0, 1.0]))
    gap = size - start[axis] if sign > 0 else start[axis]
    peak, back = rng.uniform(0.35, 0.75), rng.uniform(1.0, 1.3)
    moments = np.linspace(0.0, 1.0, frames)
    rise = np.where(moments < peak, moments / peak, (back - moments) / (back - peak))
    shifts = np.zeros((frames, 2))
    shifts[:, axis] = sign * np.sin(np.pi / 2 * rise) * (gap + radius * rng.uniform(0.8, 1.6))
    shifts[:, 1 - axis] = draw_scalar(rng, frames=frames, rate=0.015 * size)
    return shifts


def draw_absence(
    rng: np.random.Generator, *, frames: int, start: NDArray[np.float64], size: int, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw shifts (F, 2) and scales (F,) of something that is out of sight for a while.

    That is one frame to half of them. It leaves faster and faster, and comes back through any side,
    at another size. Below 4 frames it leaves for good.
    """
    gone = int(rng.integers(2, max(3, frames - 2)))
    away_for = int(rng.integers(1, max(4, frames // 2 + 1)))
    back = min(gone + away_for, max(gone + 1, frames - 1))
    goal, haste = rng.uniform(0.15, 0.85, size=2) * size, rng.uniform(1.0, 3.0)
    leave, enter = _draw_edge(rng, size=size), _draw_edge(rng, size=size)
    # Far enough out that no turn of the camera brings it back meanwhile.
    away = leave + (leave - size / 2) / np.abs(leave - size / 2).max() * (radius + 0.3 * size)
    places, scales = np.empty((frames, 2)), np.ones(frames)
    for moment in range(frames):
        if moment < gone:
            places[moment] = start + (moment / gone) ** haste * (leave - start)
        elif moment < back:
            places[moment] = away
        else:
            places[moment] = enter + (1.0 - 0.5 ** (moment - back)) * (goal - enter)
    scales[back:] = np.exp(np.clip(rng.normal(0.0, 0.3), -0.6, 0.6))
    return places - start, scales


def _draw_edge(rng: np.random.Generator, *, size: int) -> NDArray[np.float64]:
    """Return a point (x, y) on any side of the picture."""
    axis, far = int(rng.integers(2)), bool(rng.integers(2))
    point = rng.uniform(0.1, 0.9, size=2) * size
    point[axis] = size if far else 0.0
    return point


def draw_wave(rng: np.random.Generator, *, extent: float, strength: float) -> Wave:
    """Return a wave for something `extent` source pixels wide; `strength` 1 bends it clearly."""
    count = 4
    lengths = extent * np.exp(rng.uniform(np.log(0.5), np.log(2.0), size=count))
    angles, pushes = rng.uniform(0.0, 2 * np.pi, size=(2, count))
    numbers = 2 * np.pi / lengths
    # Kept below 1 in sum, or the picture would fold over itself.
    amplitudes = 0.16 * strength * rng.uniform(0.3, 1.0, size=count) / numbers
    return Wave(
        vectors=np.stack([np.cos(angles), np.sin(angles)], axis=1) * numbers[:, None],
        pushes=np.stack([np.cos(pushes), np.sin(pushes)], axis=1) * amplitudes[:, None],
        phases=rng.uniform(0.0, 2 * np.pi, size=count),
        speeds=rng.normal(0.0, 0.5, size=count),
    )


def bend(points: NDArray[np.float64], wave: Wave, moment: int) -> NDArray[np.float64]:
    """Return source points (..., 2) moved by the wave at frame `moment`."""
    phase = points @ wave.vectors.T + wave.phases  # (..., K)
    rise = np.sin(phase + wave.speeds * moment) - np.sin(phase)
    return np.asarray(points + rise @ wave.pushes)


def map_sources(inverse: Matrix, wave: Wave, moment: int, *, window: Window) -> NDArray[np.float32]:
    """Return the source pixel (x, y) of each pixel of the window, float32 (h, w, 2)."""
    left, top, width, height = window
    columns = (np.arange(-(-width // _CELL) + 2) - 1) * _CELL + (_CELL - 1) / 2 + left
    rows = (np.arange(-(-height // _CELL) + 2) - 1) * _CELL + (_CELL - 1) / 2 + top
    along, down = columns[None, :, None] * inverse[:2, 0], rows[:, None, None] * inverse[:2, 1]
    points = bend(along + (down + inverse[:2, 2]), wave, moment)  # (rows, columns, 2)
    full = cv2.resize(points.astype(np.float32), None, fx=_CELL, fy=_CELL)
    return np.ascontiguousarray(full[_CELL : _CELL + height, _CELL : _CELL + width])
