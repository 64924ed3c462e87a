"""Boxes in a video as Label Studio writes them, and what a person drew of them.

A keyframe is `{frame, enabled, x, y, width, height, ...}` with numbers in percent of the frame. A
region goes to Label Studio with the keyframes of both hands; those that we gave come back among
those that a person drew, so what was given is remembered and told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, Final, NamedTuple

from tamvt_client import ObjectMaskOut

SAME: Final = 0.01  # percent: a number that went to Label Studio and came back

Region = dict[str, Any]
# By region: the boxes of frames as Label Studio counts them, in percent.
Boxes = dict[str, dict[int, tuple[float, float, float, float]]]


class VideoRegions(NamedTuple):
    """The boxes of a task: Label Studio's regions by id, and what is drawn in each."""

    regions: dict[str, Region]
    drawn: Boxes


def read_regions(results: Iterable[Region]) -> VideoRegions:
    """Return the regions of a video among an annotation's results, with their keyframes."""
    regions = {each["id"]: each for each in results if each.get("type") == "videorectangle"}
    drawn: Boxes = {
        region_id: {
            int(key["frame"]): (
                float(key["x"]),
                float(key["y"]),
                float(key["width"]),
                float(key["height"]),
            )
            for key in region["value"].get("sequence", ())
        }
        for region_id, region in regions.items()
    }
    return VideoRegions(regions, drawn)


def by_person(drawn: Boxes, given: Boxes) -> Boxes:
    """Return the boxes that a person drew: those that we did not give."""
    return {
        region_id: {
            frame: box
            for frame, box in boxes.items()
            if not _is_same(box, given.get(region_id, {}).get(frame))
        }
        for region_id, boxes in drawn.items()
    }


def _is_same(one: tuple[float, ...], other: tuple[float, ...] | None) -> bool:
    if other is None:
        return False
    return all(abs(a - b) <= SAME for a, b in zip(one, other, strict=True))


def in_pixels(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Return a box in percent as [x, y, width, height] in pixels of a frame (H, W)."""
    x, y, width, height = box
    return (
        x * size[1] / 100,
        y * size[0] / 100,
        width * size[1] / 100,
        height * size[0] / 100,
    )


def in_percent(found: ObjectMaskOut, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the box around an object's mask in percent of a frame (H, W)."""
    x, y, width, height = found.bbox
    return (
        round(100 * x / size[1], 4),
        round(100 * y / size[0], 4),
        round(100 * width / size[1], 4),
        round(100 * height / size[0], 4),
    )


def answered(
    region: Region,
    boxes: Mapping[int, tuple[float, float, float, float]],
    hidden: Iterable[int],
    *,
    frames_count: int,
    duration: float,
    rate: float,
) -> Region:
    """Return a region with these boxes by frame; in `hidden` frames it is not to be seen."""
    unseen = set(hidden)
    after = dict(pairwise(sorted({*boxes, *unseen})))
    sequence = []
    for frame, (x, y, width, height) in sorted(boxes.items()):
        key = {
            "frame": frame,
            "time": round((frame - 1) / rate, 6),
            # From a keyframe that is not enabled on, the box is not shown.
            "enabled": after.get(frame) not in unseen,
            "rotation": 0,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
        }
        sequence.append(key)
    value = {
        **region["value"],
        "framesCount": frames_count,
        "duration": duration,
        "sequence": sequence,
    }
    return {**region, "value": value}
