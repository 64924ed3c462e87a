"""Objects that come apart or bend at a joint: their parts, each with a motion of its own.

Everything is in pixels of the object's picture. F frames; a part's path is (F, 3, 3), the
identity in frame 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.layers import Cutout
from model.data.motion import Path, draw_scalar
from model.data.static import Pixels

_LEAST_SHARE = 0.08  # of the object; what is smaller is no part of it
_OVERLAP = 2.5  # pixels by which parts lie under one another, so that no seam shows
_DIRECTIONS = 5

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of an object and how it moves beside the object's own motion."""

    mask: Pixels
    path: Path


def split(item: Cutout, rng: np.random.Generator, *, frames: int) -> tuple[Part, ...]:
    """Return two halves that move apart from some frame on; () where the cut misses the object."""
    normal = _direction(rng)
    x, y = _pixels(item)
    across, along = _project(x, y, item.center, normal)
    wobble = item.extent * rng.uniform(0.0, 0.08)
    bend = np.sin(along / item.extent * rng.uniform(3.0, 12.0) + rng.uniform(0.0, 6.3))
    side = across + wobble * bend + item.extent * rng.uniform(-0.15, 0.15)
    moments = np.arange(frames, dtype=np.float64)
    begin = rng.uniform(0.0, 0.6 * frames)
    ramp = np.clip((moments - begin) / rng.uniform(1.0, max(2.0, frames - begin)), 0.0, 1.0)
    ramp[0] = 0.0
    gap, turn = item.extent * rng.uniform(0.15, 0.7), rng.normal(0.0, 0.35, size=2)
    halves = [(side > -_OVERLAP, 1.0), (side < _OVERLAP, -1.0)]
    if min(inside.mean() for inside, _ in halves) < _LEAST_SHARE:
        return ()
    return tuple(
        Part(
            _mask_of(item, x, y, inside),
            _turning(ramp * turn[index], item.center, ramp[:, None] * sign * gap / 2 * normal),
        )
        for index, (inside, sign) in enumerate(halves)
    )


def hinge(item: Cutout, rng: np.random.Generator, *, frames: int) -> tuple[Part, ...]:
    """Return a trunk and a limb that swings about the narrowest of some cuts.

    () where none is found.
    """
    x, y = _pixels(item)
    best: tuple[float, Points, float] | None = None
    for _ in range(_DIRECTIONS):
        normal = _direction(rng)
        across, _ = _project(x, y, item.center, normal)
        at = float(np.quantile(across, rng.uniform(0.55, 0.88)))
        width = float((np.abs(across - at) < 1.0).sum()) / 2
        if best is None or width < best[0]:
            best = (width, normal, at)
    if best is None or best[0] < 1.0:
        return ()
    width, normal, at = best
    across, along = _project(x, y, item.center, normal)
    beyond = across - at
    near = np.abs(beyond) < 1.5
    joint = item.center + at * normal + along[near].mean() * np.array([-normal[1], normal[0]])
    # Trunk and limb share a disk about the joint, so that no gap opens when the limb swings.
    disk = np.hypot(x - joint[0], y - joint[1]) < max(_OVERLAP, min(0.5 * width, 0.3 * item.extent))
    limb, trunk = (beyond > 0) | disk, (beyond < _OVERLAP) | disk
    if min(limb.mean(), trunk.mean()) < _LEAST_SHARE:
        return ()
    swing = draw_scalar(rng, frames=frames, rate=rng.uniform(0.06, 0.2))
    angle = 1.1 * np.tanh(swing / 1.1)
    parts = [
        Part(_mask_of(item, x, y, trunk), np.tile(np.eye(3), (frames, 1, 1))),
        Part(_mask_of(item, x, y, limb), _turning(angle, joint, np.zeros((frames, 2)))),
    ]
    return tuple(parts if rng.random() < 0.5 else parts[::-1])


def _direction(rng: np.random.Generator) -> Points:
    angle = rng.uniform(0.0, 2 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])


def _pixels(item: Cutout) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the object's pixels, x and y."""
    left, top, width, height = item.box
    rows, columns = np.nonzero(item.mask[top : top + height, left : left + width])
    return columns + left, rows + top


def _project(
    x: NDArray[np.intp], y: NDArray[np.intp], origin: Points, normal: Points
) -> tuple[Points, Points]:
    """Return where the pixels lie along the normal, and across it to its left."""
    right, down = x - origin[0], y - origin[1]
    return right * normal[0] + down * normal[1], down * normal[0] - right * normal[1]


def _mask_of(
    item: Cutout, x: NDArray[np.intp], y: NDArray[np.intp], inside: NDArray[np.bool_]
) -> Pixels:
    mask = np.zeros_like(item.mask)
    mask[y[inside], x[inside]] = 1
    return mask


def box_of(part: Part) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the part."""
    left, top, width, height = cv2.boundingRect(part.mask)
    return left, top, width, height


def _turning(angle: Points, pivot: Points, shifts: Points) -> Path:
    """Return a path with `angle` (F,) about `pivot` (x, y) and with `shifts` (F, 2)."""
    path = np.tile(np.eye(3), (len(angle), 1, 1))
    cos, sin = np.cos(angle), np.sin(angle)
    path[:, 0, 0], path[:, 0, 1], path[:, 1, 0], path[:, 1, 1] = cos, -sin, sin, cos
    path[:, :2, 2] = pivot + shifts - path[:, :2, :2] @ pivot
    return path
