"""A mask of the object inside a box, by GrabCut (Rother, Kolmogorov, Blake 2004; decision 41).

Pure and blocking: run it in the thread pool. Its time is bounded for pictures of any size: it works
on at most `MAX_PIXELS` pixels around the box, in a fixed number of rounds.
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
    """Return bool (H, W): the object inside `box` ([x, y, width, height]).

    The object is what differs from the surroundings of the box. Equal pictures and boxes give
    equal masks.

    Raises:
        BadOption: the box is no box, or lies outside of the picture.
        NoObjects: no pixel differs enough.
    """
    try:
        inside = decode_box(box, rgb.shape[:2])
    except MaskError as error:
        raise BadOption(f"box: {error}") from error
    if not inside.any():
        raise BadOption("box: it lies outside of the image")
    x, y, width, height = bounding_box(inside)
    margin = max(MIN_MARGIN, round(MARGIN * max(width, height)))
    near = (
        slice(max(0, y - margin), y + height + margin),
        slice(max(0, x - margin), x + width + margin),
    )
    crop, marks = _shrink(rgb[near], inside[near])
    small = _cut(crop, marks).astype(np.float32)
    rows, columns = inside[near].shape
    soft = cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR)
    found = np.zeros_like(inside)
    found[near] = soft >= 0.5
    found &= inside
    if not found.any():
        raise NoObjects("nothing stands out inside of the box")
    return found


def _shrink(rgb: Rgb, inside: Mask) -> tuple[Rgb, NDArray[np.uint8]]:
    """Return the crop at most `MAX_PIXELS` large, and GrabCut's marks of the same size.

    A mark says that a pixel is background, or that it may be the object.
    """
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
    """Return the object in the crop, without specks."""
    if not (marks == cv2.GC_PR_FGD).any():
        return np.zeros(marks.shape, dtype=np.bool_)
    cv2.setRNGSeed(0)  # its k-means begins at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(crop[..., ::-1])
    no_rectangle = (0, 0, 0, 0)
    cv2.grabCut(bgr, marks, no_rectangle, *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = (marks == cv2.GC_PR_FGD).astype(np.uint8)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(found)
    areas = statistics[:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= SPECK * areas[1:].max(initial=1))
    return np.isin(parts, large[large > 0])  # part 0 is the background
