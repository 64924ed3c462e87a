"""YOLO segmentation: `labels/STEM.txt`, a line of outline points for each object, and `data.yaml`.

Points are shares of the frame, at the centers of pixels, so that filling them gives the mask back.
A line is one outline: parts and holes are joined to it by seams without width, as Ultralytics'
own converter of COCO does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial, reduce

import numpy as np
from numpy.typing import NDArray

from model.core.encoding import IntricateMask, find_outlines
from service.media.formats.annotated import AnnotatedVideo, File

MAX_OUTLINES = 1000  # of the parts and holes of one mask: each is hung on to all before it
MAX_PAIRS = 1 << 26  # of points that are measured for one mask
PAIRS_AT_ONCE = 1 << 22


def write(video: AnnotatedVideo) -> Iterator[File]:
    """Yield the lines of every frame, and the names of the classes: an object is a class."""
    classes = {object_id: place for place, object_id in enumerate(video.labels)}
    for frame in video.frames:
        height, width = frame.size
        lines = []
        for each in frame.disjoint():
            try:
                points = (join_contours(each.mask) + 0.5) / (width, height)
            except IntricateMask as error:
                raise IntricateMask(
                    f"the mask of object {each.object_id} in {frame.image!r} is no outline: {error}"
                ) from error
            numbers = " ".join(f"{number:.6f}" for number in points.ravel())
            lines.append(f"{classes[each.object_id]} {numbers}\n")
        yield f"labels/{frame.stem}.txt", "".join(lines).encode()
    names = "".join(
        f"  {place}: {json.dumps(name)}\n" for place, name in enumerate(video.labels.values())
    )
    yield "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}".encode()


def join_contours(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the points (P, 2) of one outline around all parts of a mask and its holes.

    IntricateMask for more than MAX_OUTLINES of them, or too many corners.
    """
    outlines = find_outlines(mask, most=MAX_OUTLINES, holes=True)
    parts = [outline.astype(np.int64) for outline in outlines]
    pairs = min(PAIRS_AT_ONCE, MAX_PAIRS // len(parts))
    # The largest first: each of the others is hung on where it is nearest.
    return reduce(partial(hang_on, pairs=pairs), sorted(parts, key=len, reverse=True))


def hang_on(whole: NDArray[np.int64], part: NDArray[np.int64], *, pairs: int) -> NDArray[np.int64]:
    """Return an outline that goes along `whole`, over to `part`, around it, and back."""
    here, there = nearest_points(whole, part, pairs=pairs)
    around = np.roll(part, -there, axis=0)
    return np.concatenate([whole[: here + 1], around, around[:1], whole[here:]])


def nearest_points(
    whole: NDArray[np.int64], part: NDArray[np.int64], *, pairs: int
) -> tuple[int, int]:
    """Return the places of two points that are near each other, one of each outline.

    About so many pairs are compared: of a longer part not every point.
    """
    step = max(1, len(whole) * len(part) // pairs)
    thinned = part[::step]
    distances = ((whole[:, None] - thinned[None]) ** 2).sum(axis=2)
    here, there = np.unravel_index(int(distances.argmin()), distances.shape)
    return int(here), int(there) * step
