"""From a box to a mask: what stands out inside of it (GrabCut, Rother, Kolmogorov, Blake 2004).

Pure and blocking: run it in the thread pool. It looks at no more than `MAX_PIXELS` pixels around
the box and takes a fixed number of rounds, so its time is bounded whatever the picture's size.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.encoding import decode_box
from model.core.masks import MaskError, bounding_box
from service.errors import BadOption, NoObjects

MAX_PIXELS: Final = 120_000  # decision 41
ROUNDS: Final = 4
MARGIN: Final = 0.3  # of the box's longer side: what is known to be background
MIN_MARGIN: Final = 8
SPECK: Final = 0.04  # parts smaller than this share of the largest one are noise

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]


def segment_box(rgb: Rgb, box: list[float]) -> Mask:
    """bool (H, W): the pixels within `box` ([x, y, width, height]) that differ from around it.

    Equal pictures and boxes give equal masks.

    Raises:
        BadOption: the box is none, or lies outside of the picture.
        NoObjects: nothing stands out.
    """
    height, width = rgb.shape[:2]
    inside = _inside(box, (height, width))
    top, bottom, left, right = _surroundings(inside)
    crop, marked = _shrunk(rgb[top:bottom, left:right], inside[top:bottom, left:right])
    found = np.zeros((height, width), dtype=np.bool_)
    found[top:bottom, left:right] = _enlarged(_cut(crop, marked), (bottom - top, right - left))
    found &= inside
    if not found.any():
        raise NoObjects("nothing stands out inside of the box")
    return found


def _inside(box: list[float], size: tuple[int, int]) -> Mask:
    try:
        inside = decode_box(box, size)
    except MaskError as error:
        raise BadOption(f"box: {error}") from error
    if not inside.any():
        raise BadOption("box: it lies outside of the image")
    return inside


def _surroundings(inside: Mask) -> tuple[int, int, int, int]:
    """Top, bottom, left and right of the box and its margin."""
    x, y, width, height = bounding_box(inside)
    margin = max(MIN_MARGIN, round(MARGIN * max(width, height)))
    rows, columns = inside.shape
    return (
        max(0, y - margin),
        min(rows, y + height + margin),
        max(0, x - margin),
        min(columns, x + width + margin),
    )


def _shrunk(rgb: Rgb, inside: Mask) -> tuple[Rgb, NDArray[np.uint8]]:
    """The crop, small enough, and GrabCut's marks: known background, or perhaps the object."""
    height, width = inside.shape
    scale = min(1.0, (MAX_PIXELS / (height * width)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    crop = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    near = cv2.resize(inside.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    marks = np.where(near == 1, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    if not (marks == cv2.GC_BGD).any():  # a box that fills the picture: its rim is background
        marks[[0, -1], :] = cv2.GC_BGD
        marks[:, [0, -1]] = cv2.GC_BGD
    return np.asarray(crop, dtype=np.uint8), marks


def _cut(crop: Rgb, marks: NDArray[np.uint8]) -> Mask:
    """GrabCut's answer on the crop, without specks."""
    if not (marks == cv2.GC_PR_FGD).any():
        return np.zeros(marks.shape, dtype=np.bool_)
    cv2.setRNGSeed(0)  # its k-means begins at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(crop[..., ::-1])
    no_rectangle = (0, 0, 0, 0)
    cv2.grabCut(bgr, marks, no_rectangle, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    return _without_specks(marks == cv2.GC_PR_FGD)


def _without_specks(mask: Mask) -> Mask:
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8))
    areas = facts[:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= SPECK * areas[1:].max(initial=1))
    return np.isin(parts, large[large > 0]) if count > 1 else mask


def _enlarged(mask: Mask, size: tuple[int, int]) -> Mask:
    soft = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 0.5, dtype=np.bool_)
