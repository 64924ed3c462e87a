"""YOLO segmentation: `labels/STEM.txt`, a line of outline points for each object, and `data.yaml`.

Points are shares of the frame, at the centers of pixels, so that filling them gives the mask back.
A line is one outline: parts and holes are joined to it by seams without width, as Ultralytics'
own converter of COCO does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from service.media.formats.annotated import AnnotatedVideo, File

MOST_COMPARED = 1 << 22  # pairs of points that are measured at once


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the lines of every frame, and the names of the classes: an object is a class."""
    classes = {object_id: place for place, object_id in enumerate(video.labels)}
    for frame in video.frames:
        height, width = frame.size
        lines = []
        for each in frame.disjoint():
            points = (join_contours(each.mask) + 0.5) / (width, height)
            numbers = " ".join(f"{number:.6f}" for number in points.ravel())
            lines.append(f"{classes[each.object_id]} {numbers}\n")
        yield f"labels/{frame.stem}.txt", "".join(lines).encode()
    names = "".join(
        f"  {place}: {json.dumps(name)}\n" for place, name in enumerate(video.labels.values())
    )
    yield "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}".encode()


def join_contours(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the points (P, 2) of one outline around all parts of a mask and its holes."""
    found, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    parts = [contour.reshape(-1, 2).astype(np.int64) for contour in found]
    # The largest first: each of the others is hung on where it is nearest.
    return reduce(hang_on, sorted(parts, key=len, reverse=True))


def hang_on(whole: NDArray[np.int64], part: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an outline that goes along `whole`, over to `part`, around it, and back."""
    here, there = nearest_points(whole, part)
    around = np.roll(part, -there, axis=0)
    return np.concatenate([whole[: here + 1], around, around[:1], whole[here:]])


def nearest_points(
    whole: Sequence[NDArray[np.int64]] | NDArray[np.int64], part: NDArray[np.int64]
) -> tuple[int, int]:
    """Return the places of two points that are near each other, one of each outline."""
    points = np.asarray(whole)
    step = max(1, len(points) * len(part) // MOST_COMPARED)
    thinned = part[::step]
    distances = ((points[:, None] - thinned[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here), int(there) * step
