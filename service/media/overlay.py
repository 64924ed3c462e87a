"""Pictures for people: masks painted over frames, a contact sheet, an overlay video.

H and W are a frame's height and width; pictures are uint8 RGB (H, W, 3), label maps uint8 (H, W).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.palette import davis_palette
from service.media.video import VideoWriter

Rgb: TypeAlias = NDArray[np.uint8]
Labels: TypeAlias = NDArray[np.uint8]

OPACITY = 0.45
TILE_WIDTH = 480
GAP = 12
CAPTION_HEIGHT = 26
PAPER = (250, 250, 248)
INK = (70, 70, 68)


def paint(frame: Rgb, labels: Labels) -> Rgb:
    """Return the frame with every object tinted in its DAVIS color, inside a bright outline."""
    painted = frame.copy()
    for object_id in np.unique(labels[labels > 0]):
        mask = labels == object_id
        dark = davis_palette()[object_id]
        # DAVIS's first colors are at half strength: too dark for dark frames.
        color = np.asarray(dark * (255 / max(int(dark.max()), 1)), dtype=np.float64)
        tint = frame[mask] * (1 - OPACITY) + color * OPACITY
        painted[mask] = np.rint(tint).astype(np.uint8)
        # A bright line between dark ones shows on any background.
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        thickness = max(1, round(max(mask.shape) / 500))
        darker, brighter = color * 0.25, 255 - (255 - color) * 0.25
        cv2.drawContours(painted, contours, -1, darker.tolist(), thickness + 2, cv2.LINE_AA)
        cv2.drawContours(painted, contours, -1, brighter.tolist(), thickness, cv2.LINE_AA)
    return painted


def contact_sheet(pictures: Sequence[tuple[int, Rgb]], *, columns: int = 4) -> Rgb:
    """Return one picture of (frame number, picture) pairs, row by row, each with its number."""
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    columns = min(columns, len(pictures))
    height, width = pictures[0][1].shape[:2]
    height = round(height * TILE_WIDTH / width)
    tile_height = height + CAPTION_HEIGHT
    rows = ceil(len(pictures) / columns)
    size = (GAP + rows * (tile_height + GAP), GAP + columns * (TILE_WIDTH + GAP), 3)
    sheet = np.full(size, PAPER, np.uint8)
    for index, (number, picture) in enumerate(pictures):
        top = GAP + index // columns * (tile_height + GAP)
        left = GAP + index % columns * (TILE_WIDTH + GAP)
        small = cv2.resize(picture, (TILE_WIDTH, height), interpolation=cv2.INTER_AREA)
        sheet[top : top + height, left : left + TILE_WIDTH] = small
        origin = (left + 2, top + tile_height - 8)
        font = cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(sheet, f"frame {number}", origin, font, 0.5, INK, 1, cv2.LINE_AA)
    return sheet


def space_evenly(count: int, *, most: int) -> tuple[int, ...]:
    """Return at most `most` frame numbers of 0..count-1, the first and the last among them."""
    numbers = np.linspace(0, count - 1, min(count, most)).round().astype(int)
    return tuple(int(number) for number in numbers)


def write_overlay(path: Path, pictures: Iterable[tuple[float, Rgb]]) -> int:
    """Write painted frames, each with its seconds, as an MP4 and return how many there were.

    The file appears under its name when it is complete.
    """
    unfinished = path.with_name(f"{path.stem}.part{path.suffix}")
    count = 0
    with VideoWriter(unfinished) as video:
        for time_s, picture in pictures:
            video.write(picture, time_s=time_s)
            count += 1
    unfinished.replace(path)
    return count
