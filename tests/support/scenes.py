"""Scenes that the toy model tracks exactly: plain squares, each of its own color, that move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from service.engines.base import EntryPicture

SIZE = (64, 96)
FADED = 38
COLORS = {1: (220, 40, 40), 2: (40, 210, 60), 3: (50, 60, 230)}


def picture(frame: int, object_ids: Sequence[int] = (1,)) -> EntryPicture:
    """Return frame number `frame` of the video and the true masks of the objects."""
    rgb = np.full((*SIZE, 3), (20, 24, 30), np.uint8)
    masks = np.zeros((len(object_ids), *SIZE), np.uint8)
    for row, object_id in enumerate(object_ids):
        x, y = (5 + 3 * frame + 25 * (object_id - 1)) % 76, (4 + 7 * object_id + frame) % 44
        rgb[y : y + 18, x : x + 18] = COLORS[object_id]
        masks[:, y : y + 18, x : x + 18] = 0  # a later object is in front
        masks[row, y : y + 18, x : x + 18] = 255
    return EntryPicture(rgb, masks)


def clip(first: int, last: int, object_ids: Sequence[int] = (1,)) -> NDArray[np.uint8]:
    """Return frames (L, h, w, 3) from first to last."""
    return np.stack([picture(frame, object_ids).frame for frame in range(first, last + 1)])


def faded(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames in which object 1 has a color that gives it little confidence."""
    return np.where(frames == COLORS[1][0], np.uint8(COLORS[1][0] - FADED), frames)


def true_masks(first: int, last: int, object_ids: Sequence[int] = (1,)) -> NDArray[np.uint8]:
    """Return masks (L, O, h, w) from first to last."""
    return np.stack([picture(frame, object_ids).masks for frame in range(first, last + 1)])
