"""Masks as the service writes them: COCO's compressed RLE, polygons, palette PNGs.

A mask is bool (H, W), a label map uint8 (H, W) of object ids, a `size` (H, W). These few lines
spare the client OpenCV and pycocotools; tests hold them equal to what the service computes.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import TypedDict  # pydantic reads no other before Python 3.12


class Rle(TypedDict):
    """COCO's compressed run-length encoding; size is [height, width]."""

    size: tuple[int, int]
    counts: str


def encode_rle(mask: NDArray[np.bool_]) -> Rle:
    """Return the mask, bool (H, W), in COCO's compressed RLE."""
    height, width = mask.shape
    columns = mask.T.ravel()
    changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1
    starts = np.concatenate(([0], changes)) if columns[:1].any() else changes
    runs = np.diff(starts, prepend=0, append=columns.size)
    # From the fourth run on COCO writes the difference to the run two before.
    differences = np.concatenate((runs[:3], runs[3:] - runs[1:-2]))
    return {"size": (height, width), "counts": "".join(map(_write_number, differences.tolist()))}


def decode_rle(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """Return the mask, bool (H, W), of a compressed RLE; ValueError where it is damaged."""
    (height, width), counts = rle["size"], rle["counts"]
    runs: list[int] = []
    value = shift = 0
    for code in counts.encode():
        group = code - 48
        if not 0 <= group < 64:
            raise ValueError(f"the RLE has a character that COCO does not use: {chr(code)!r}")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            continue
        if group & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"the RLE does not fill its {height}x{width} pixels")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(columns.reshape(width, height).T)


def decode_polygons(
    polygons: Iterable[Sequence[float]], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return the union, bool (H, W), of outlines [x0, y0, x1, y1, ...] that the service wrote.

    Its outlines join pixel centers in steps to one of the eight neighbors, straight lines
    shortened. The pixels on an outline belong to the mask, holes are filled.
    """
    mask = np.zeros(size, np.bool_)
    for polygon in polygons:
        corners = np.rint(np.reshape(polygon, (-1, 2))).astype(int)
        steps = np.roll(corners, -1, axis=0) - corners
        lengths = np.abs(steps).max(axis=1)
        units = np.repeat(steps / np.maximum(lengths, 1)[:, None], lengths, axis=0)
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        starts = np.repeat(corners, lengths, axis=0)
        x, y = np.rint(starts + offsets[:, None] * units).astype(int).T
        rise = np.rint(units[:, 1]).astype(int)
        # Each step up or down crosses one row; an odd number of crossings to the left is inside.
        crossed = np.zeros(size, np.int64)
        down, up = rise > 0, rise < 0
        np.add.at(crossed, (y[down], x[down]), 1)
        np.add.at(crossed, (y[up] - 1, np.rint(x + units[:, 0]).astype(int)[up]), 1)
        mask |= np.cumsum(crossed, axis=1) % 2 == 1
        mask[y, x] = True
        mask[corners[:, 1], corners[:, 0]] = True
    return mask


def overlay_masks(
    masks: Iterable[tuple[int, NDArray[np.bool_]]], frame_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the label map, uint8 (H, W), of (object id, mask) pairs; the lowest id is on top."""
    labels = np.zeros(frame_size, np.uint8)
    for object_id, mask in sorted(masks, key=lambda pair: pair[0], reverse=True):
        labels[mask] = object_id
    return labels


def write_label_map(labels: NDArray[np.uint8]) -> bytes:
    """Return a palette PNG of a label map (H, W), in the colors of DAVIS."""
    image = Image.fromarray(labels)
    image.putpalette(davis_palette().tobytes())
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()


def read_label_map(png: bytes) -> NDArray[np.uint8]:
    """Return the label map, uint8 (H, W), in a palette or gray PNG, as the service writes it."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        if image.mode not in ("P", "L"):
            raise ValueError(f"a label map is a palette PNG; this one is {image.mode}")
        return np.array(image, np.uint8)


def davis_palette() -> NDArray[np.uint8]:
    """Return uint8 (256, 3): the colors of DAVIS, PASCAL VOC's for 0..21, then gray."""
    palette = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for index in range(22):
        for channel in range(3):
            bits = (index >> channel & 1, index >> channel + 3 & 1)
            palette[index, channel] = bits[0] << 7 | bits[1] << 6
    return palette


def _write_number(number: int) -> str:
    """Return a number in COCO's text: groups of five bits, the lowest first."""
    text = ""
    while True:
        group, number = number & 31, number >> 5
        done = number == -(group >> 4)  # what is left is only the sign, which the group tells
        text += chr(group + 48 + 32 * (not done))
        if done:
            return text
