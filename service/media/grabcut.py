"""The object that a prompt means, by GrabCut (Rother, Kolmogorov, Blake 2004; decision 41).

Pure and blocking: run it in the thread pool. Its time is bounded for pictures of any size: each cut
looks at a limited number of pixels, in a limited number of rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.masks import bounding_box

FINE_PIXELS: Final = 40_000  # decision 41
WIDE_PIXELS: Final = 30_000
COARSE_PIXELS: Final = 6_000
ROUNDS: Final = 3
MARGIN: Final = 0.3  # of the longer side: what is known to be background
MIN_MARGIN: Final = 8
SPECK: Final = 0.04  # parts smaller than this share of the largest one are noise
# How far an object may reach from where it was touched, as shares of the picture's shorter side.
REACHES: Final = (0.06, 0.12, 0.22, 0.38, 0.6)
BEYOND: Final = 1.6  # reaches: from here on all is background
CLEAR_EDGE: Final = 45.0  # a difference in color, of 255, at which an edge cannot be missed
RIM: Final = 0.8  # of score, times the share of its edge at the picture's rim: that is background
SEEDS: Final = 2.5  # times the touched pixels: what is no larger is not found, but only touched
GROWTH: Final = 0.01  # of score for each doubling of the area: rather the whole than its part

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Place = tuple[slice, slice]  # rows and columns


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a person touched the picture: x, y of one pixel, or of those a stroke goes through."""

    points: Sequence[tuple[float, float]]
    width: float = 1.0


def cut_inside(rgb: Rgb, inside: Mask) -> Mask:
    """Return bool (H, W): what differs, within the mask `inside`, from what is around it."""
    x, y, width, height = bounding_box(inside)
    margin = max(MIN_MARGIN, round(MARGIN * max(width, height)))
    near = _around((x, y, width, height), margin, inside.shape)
    crop = _shrunk(rgb[near], FINE_PIXELS)
    part = cv2.resize(
        inside[near].view(np.uint8), crop.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    marks = np.where(part == 1, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    found = np.zeros_like(inside)
    size = near[1].stop - near[1].start, near[0].stop - near[0].start
    found[near] = _resized(_cut(crop, marks), size)
    return np.asarray(found & inside)


def grow(rgb: Rgb, touched: Sequence[Trace], spared: Sequence[Trace]) -> Mask:
    """Return bool (H, W): the object that is touched.

    It is looked for at several sizes; the one with the clearest edge is it. What is `spared` is not
    of it. The mask is empty where nothing stands out.
    """
    height, width = rgb.shape[:2]
    wide = _shrunk(rgb, WIDE_PIXELS)
    scale = wide.shape[0] / height
    ours, others = (rasterize(each, wide.shape, scale) for each in (touched, spared))
    distance = _distance(ours)
    if others.any():  # what is nearer to a spared pixel is of another object
        distance[_distance(others) <= distance] = np.inf
    best, score = np.zeros(wide.shape[:2], np.bool_), -1.0
    for reach in REACHES:
        found = _reached(wide, ours, others, distance, reach * min(wide.shape[:2]))
        clear = edge_contrast(wide, found) + GROWTH * float(np.log2(max(1, found.sum())))
        clear -= RIM * _share_of_rim(found)
        if found.sum() > SEEDS * ours.sum() and clear > score:
            best, score = found, clear
    if not best.any():
        return np.zeros((height, width), np.bool_)
    return _refined(rgb, best, touched, spared)


def edge_contrast(rgb: Rgb, mask: Mask) -> float:
    """Return 0..1: how much the picture changes across the mask's edge, on average.

    The picture's own rim is no edge.
    """
    x, y, width, height = bounding_box(mask)
    near = _around((x, y, width, height), MIN_MARGIN, mask.shape)
    crop = _shrunk(rgb[near], FINE_PIXELS)
    inside = _resized(mask[near], crop.shape[1::-1]).astype(np.float32)
    color = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB).astype(np.float32)
    means = []
    for share in (inside, 1 - inside):
        total = cv2.blur(color * share[..., None], (5, 5))  # (h, w, 3)
        means.append(total / np.maximum(cv2.blur(share, (5, 5)), 1e-3)[..., None])
    edge = (inside > 0) & (cv2.erode(inside, np.ones((3, 3)), borderValue=1) == 0)
    if not edge.any():
        return 0.0
    difference = np.linalg.norm(means[0] - means[1], axis=-1)[edge]
    return float(np.minimum(difference / CLEAR_EDGE, 1).mean())


def _share_of_rim(mask: Mask) -> float:
    """Return 0..1: how much of the mask's edge lies on the picture's rim."""
    rim = sum(int(line.sum()) for line in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))
    inner = int((mask[1:] != mask[:-1]).sum() + (mask[:, 1:] != mask[:, :-1]).sum())
    return rim / max(1, rim + inner)


def _reached(
    rgb: Rgb, ours: Mask, others: Mask, distance: NDArray[np.float32], reach: float
) -> Mask:
    """Return what is cut out around the touched pixels `ours`, no further than `reach` or so."""
    x, y, width, height = bounding_box(distance <= BEYOND * reach)
    near = _around((x, y, width, height), 2, ours.shape)
    marks = np.full(ours[near].shape, cv2.GC_BGD, np.uint8)
    marks[distance[near] <= BEYOND * reach] = cv2.GC_PR_BGD
    marks[distance[near] <= reach] = cv2.GC_PR_FGD
    marks[others[near]] = cv2.GC_BGD
    marks[ours[near]] = cv2.GC_FGD
    crop = _shrunk(rgb[near], COARSE_PIXELS)
    small = np.asarray(
        cv2.resize(marks, crop.shape[1::-1], interpolation=cv2.INTER_NEAREST), np.uint8
    )
    found = np.zeros_like(ours)
    size = near[1].stop - near[1].start, near[0].stop - near[0].start
    found[near] = _resized(_cut(crop, small), size)
    return _connected(found, ours)


def _distance(mask: Mask) -> NDArray[np.float32]:
    return np.asarray(cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5), np.float32)


def _refined(rgb: Rgb, rough: Mask, touched: Sequence[Trace], spared: Sequence[Trace]) -> Mask:
    """Return the rough mask (h, w) of a shrunk picture in the picture's size, cut once more."""
    size = rgb.shape[:2]
    scale = size[0] / rough.shape[0], size[1] / rough.shape[1]
    x, y, width, height = bounding_box(rough)
    box = int(x * scale[1]), int(y * scale[0]), int(width * scale[1]), int(height * scale[0])
    near = _around(box, max(MIN_MARGIN, round(MARGIN * max(box[2:]))), size)
    crop = _shrunk(rgb[near], FINE_PIXELS)
    down = crop.shape[0] / (near[0].stop - near[0].start)
    part = _resized(_resized(rough, size[::-1])[near], crop.shape[1::-1])
    band = 2 * max(2, round(0.04 * max(box[2:]) * down)) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (band, band))
    solid = part.astype(np.uint8)
    marks = np.full(solid.shape, cv2.GC_BGD, np.uint8)
    marks[cv2.dilate(solid, kernel) == 1] = cv2.GC_PR_BGD
    marks[solid == 1] = cv2.GC_PR_FGD
    marks[cv2.erode(solid, kernel) == 1] = cv2.GC_FGD
    corner = near[1].start, near[0].start
    ours = rasterize(touched, marks.shape, down, corner)
    marks[rasterize(spared, marks.shape, down, corner)] = cv2.GC_BGD
    marks[ours] = cv2.GC_FGD
    found = np.zeros(size, np.bool_)
    columns, rows = near[1].stop - near[1].start, near[0].stop - near[0].start
    found[near] = _resized(_connected(_cut(crop, marks), ours), (columns, rows))
    return found


def _cut(rgb: Rgb, marks: NDArray[np.uint8]) -> Mask:
    """Return the object in a small picture, without specks, from GrabCut's marks (h, w)."""
    if not (marks == cv2.GC_BGD).any():  # where all may be the object, the rim is background
        for rim in (marks[0], marks[-1], marks[:, 0], marks[:, -1]):
            rim[rim != cv2.GC_FGD] = cv2.GC_BGD
    maybe = (marks == cv2.GC_PR_FGD) | (marks == cv2.GC_FGD)
    if not maybe.any() or maybe.all():
        return np.zeros(marks.shape, dtype=np.bool_)
    cv2.setRNGSeed(0)  # its k-means begins at random
    models = np.zeros((1, 65)), np.zeros((1, 65))
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    cv2.grabCut(bgr, marks, (0, 0, 0, 0), *models, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = ((marks == cv2.GC_PR_FGD) | (marks == cv2.GC_FGD)).astype(np.uint8)
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(found)
    areas = statistics[:, cv2.CC_STAT_AREA]
    large = np.flatnonzero(areas >= SPECK * areas[1:].max(initial=1))
    return np.asarray(np.isin(parts, large[large > 0]))  # part 0 is the background


def _shrunk(rgb: Rgb, most: int) -> Rgb:
    """Return the picture with at most so many pixels."""
    height, width = rgb.shape[:2]
    scale = min(1.0, (most / (height * width)) ** 0.5)
    size = max(1, int(width * scale)), max(1, int(height * scale))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _connected(mask: Mask, seeds: Mask) -> Mask:
    """Return the parts of the mask that hold a seed."""
    _, parts = cv2.connectedComponents((mask | seeds).astype(np.uint8))
    kept = np.unique(parts[seeds])
    return np.asarray(np.isin(parts, kept[kept > 0]))


def rasterize(
    traces: Sequence[Trace],
    size: tuple[int, ...],
    scale: float = 1.0,
    corner: tuple[int, int] = (0, 0),
) -> Mask:
    """Return bool (h, w): the touched pixels in a part, from `corner` x, y on, that is shrunk."""
    drawn = np.zeros(size[:2], np.uint8)
    for trace in traces:
        places = np.round((np.array(trace.points) - corner + 0.5) * scale - 0.5).astype(np.int32)
        places = np.concatenate((places, places[-1:]))  # of one point OpenCV draws no line
        width = max(1, round(trace.width * scale))
        cv2.polylines(drawn, [places.reshape(-1, 1, 2)], isClosed=False, color=1, thickness=width)
    return np.asarray(drawn == 1)


def _resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """Return the mask in another size, [width, height], with smooth edges."""
    soft = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 0.5)


def _around(box: tuple[int, int, int, int], margin: int, size: tuple[int, ...]) -> Place:
    x, y, width, height = box
    rows = slice(max(0, y - margin), min(size[0], y + height + margin))
    return rows, slice(max(0, x - margin), min(size[1], x + width + margin))
