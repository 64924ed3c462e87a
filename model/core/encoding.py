"""Masks as COCO writes them: compressed run-length encoding, polygons, boxes.

A mask is bool (H, W); every `size` is (height, width). What comes from a user is refused with
MaskError unless it is exactly right; nothing here hands unchecked numbers to native code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.masks import MaskError, bounding_box

MAX_PIXELS = 1 << 26  # the largest mask that is decoded where no size is expected
MAX_COUNTS = 2_000_000  # characters; pure noise at 480p takes 205,000
RUNS_AT_ONCE = 100_000  # some 200 bytes each while they are written
MAX_POINTS = 20_000  # of all polygons that are given together
MAX_CROSSINGS = 50_000_000  # points times rows: what filling costs at most
MAX_COVER = 100  # how often a list of polygons may cover the whole frame
FEW_POINTS = 500  # up to here OpenCV fills quickly; its time grows with their square
CROSSINGS_AT_ONCE = 250_000
MAX_CONTOURS = 10_000  # of one mask that is written as polygons
MAX_OUTLINE_POINTS = 200_000


class IntricateMask(MaskError):
    """A mask in so many parts, or with such an outline, that polygons are no way to write it."""


class RleDict(TypedDict):
    """COCO's compressed run-length encoding: [height, width] and the runs as text."""

    size: list[int]
    counts: str


def encode_rle(mask: NDArray[np.bool_]) -> RleDict:  # decision 7
    """Return the mask in COCO's compressed RLE, equal to pycocotools', character by character."""
    height, width = mask.shape
    return {"size": [height, width], "counts": _write_counts(_runs(mask))}


def _runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return lengths of the runs of a mask read column by column, the first one of background."""
    height, width = mask.shape
    x, _, box_width, _ = bounding_box(mask)
    columns = np.ascontiguousarray(mask[:, x : x + box_width].T).ravel()  # (w, H) -> (w * H,)
    changes = np.flatnonzero(columns[1:] != columns[:-1]) + 1 + x * height
    if len(columns) and columns[0]:
        changes = np.concatenate(([x * height], changes))
    if len(columns) and columns[-1] and x + box_width < width:
        changes = np.append(changes, (x + box_width) * height)
    return np.asarray(np.diff(changes, prepend=0, append=height * width), dtype=np.int64)


def _write_counts(runs: NDArray[np.int64]) -> str:
    """Return COCO's text: runs, from the fourth on less the one two before, in five-bit groups."""
    values = runs.copy()
    values[3:] -= runs[1:-2]
    parts = np.array_split(values, max(1, len(values) // RUNS_AT_ONCE))
    return "".join(map(_write_groups, parts))


def _write_groups(values: NDArray[np.int64]) -> str:
    shifts = np.arange(0, 35, 5)
    groups = (values[:, None] >> shifts) & 31  # (runs, 7)
    rest = values[:, None] >> (shifts + 5)
    # A group is the last one if the rest is only its sign, which its own top bit says.
    last = rest == -(groups >> 4)
    length = last.argmax(axis=1)
    more = np.arange(7) < length[:, None]
    text = (groups + 32 * more + 48).astype(np.uint8)
    return str(text[np.arange(7) <= length[:, None]].tobytes(), "ascii")


def decode_rle(rle: Mapping[str, Any], size: tuple[int, int] | None = None) -> NDArray[np.bool_]:
    """Return bool (H, W): the mask of an RLE, which must have `size` if that is given.

    `counts` is COCO's compressed text, or the list of the runs themselves. MaskError for anything
    else: other keys or types, another size, runs that do not add up.
    """
    height, width = _checked_size(rle, size)
    counts = rle.get("counts")
    if isinstance(counts, str | list) and len(counts) > MAX_COUNTS:
        raise MaskError(f'the RLE\'s "counts" may have {MAX_COUNTS} characters or runs')
    runs = _listed_runs(counts) if isinstance(counts, list) else _read_counts(counts)
    if runs.min(initial=0) < 0 or runs.max(initial=0) > height * width:
        raise MaskError("the RLE has a run that is negative or longer than the mask")
    if int(runs.sum()) != height * width:
        raise MaskError(f"the RLE's runs add up to {int(runs.sum())}, not {width}x{height} pixels")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height)
    return np.ascontiguousarray(columns.T)


def _checked_size(rle: Mapping[str, Any], expected: tuple[int, int] | None) -> tuple[int, int]:
    if not isinstance(rle, Mapping) or set(rle) != {"size", "counts"}:
        raise MaskError('an RLE has exactly "size" and "counts"')
    size = rle["size"]
    whole = isinstance(size, list | tuple) and all(type(side) is int and side > 0 for side in size)
    if not whole or len(size) != 2:
        raise MaskError('the RLE\'s "size" is not [height, width]')
    height, width = size
    if expected is not None and (height, width) != tuple(expected):
        raise MaskError(
            f"the RLE's size is [{height}, {width}], expected [{expected[0]}, {expected[1]}]"
        )
    if height * width > MAX_PIXELS:
        raise MaskError(f"the RLE's size [{height}, {width}] is too large")
    return height, width


def _listed_runs(counts: list[Any]) -> NDArray[np.int64]:
    if not all(type(run) is int and 0 <= run <= MAX_PIXELS for run in counts):
        raise MaskError('the RLE\'s "counts" has a run that is no number of pixels')
    return np.array(counts, dtype=np.int64)


def _read_counts(counts: object) -> NDArray[np.int64]:
    """Return the runs in COCO's text (see `_write_counts`); raise MaskError where it is none."""
    if not isinstance(counts, str) or not counts.isascii():
        raise MaskError("the RLE's \"counts\" is not COCO's compressed text")
    codes = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if codes.min(initial=0) < 0 or codes.max(initial=0) > 63:
        raise MaskError('the RLE\'s "counts" has a character COCO does not use')
    ends = np.flatnonzero(codes < 32) + 1  # the sixth bit says that more groups follow
    if not len(ends) or ends[-1] != len(codes):
        raise MaskError('the RLE\'s "counts" ends within a number')
    starts = np.concatenate(([0], ends[:-1]))
    lengths = ends - starts
    if lengths.max() > 7:
        raise MaskError('the RLE\'s "counts" has a number that is too large')
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, lengths))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    negative = codes[ends - 1] & 16 != 0
    values -= negative.astype(np.int64) << (5 * lengths)
    runs = values.copy()
    runs[1::2] = np.cumsum(values[1::2])
    runs[2::2] = np.cumsum(values[2::2])
    return runs


def encode_polygons(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Return a mask's parts as COCO's polygons, each [x0, y0, x1, y1, ...] of pixel centers.

    COCO's polygons know no holes: they come out filled. A mask without holes comes back from
    `decode_polygons` exactly; a part of one or two pixels repeats a point to have three.
    IntricateMask for a mask in too many parts, or with too many corners.
    """
    found = find_outlines(mask, most=MAX_CONTOURS)
    polygons = [contour.ravel().astype(np.float64).tolist() for contour in found]
    return [polygon + polygon[-2:] * max(0, 3 - len(polygon) // 2) for polygon in polygons]


def find_outlines(
    mask: NDArray[np.bool_], *, most: int, holes: bool = False
) -> list[NDArray[np.int32]]:
    """Return int32 (points, 2) for each part of a mask, and each hole with `holes`: x and y.

    IntricateMask where there are more than `most` of them, or MAX_OUTLINE_POINTS in all.
    """
    pixels = mask.view(np.uint8)
    # In each of its rows a part has a run of its own, and a hole has one to its left: few runs
    # are few outlines.
    runs = int(np.count_nonzero(mask[:, 1:] > mask[:, :-1])) + int(np.count_nonzero(mask[:, :1]))
    if runs * (1 + holes) > most:
        outlines = cv2.connectedComponents(pixels)[0] - 1
        if holes:  # all that reaches the edge is one background
            background = np.pad(1 - pixels, 1, constant_values=1)
            outlines += cv2.connectedComponents(background, connectivity=4)[0] - 2
        if outlines > most:
            raise IntricateMask(f"it has more than {most} parts{' and holes' * holes}")
    mode = cv2.RETR_CCOMP if holes else cv2.RETR_EXTERNAL
    found, _ = cv2.findContours(pixels, mode, cv2.CHAIN_APPROX_SIMPLE)
    if sum(map(len, found)) > MAX_OUTLINE_POINTS:
        raise IntricateMask(f"its outlines have more than {MAX_OUTLINE_POINTS} points")
    return [np.asarray(contour, np.int32).reshape(-1, 2) for contour in found]


def check_points(points: int, rows: int) -> None:
    """Raise MaskError where so many points, in a frame of so many rows, would cost too much."""
    most = min(MAX_POINTS, MAX_CROSSINGS // rows)
    if points > most:
        raise MaskError(
            f"the polygons have {points} points; in a frame of {rows} rows at most {most} are "
            "filled: draw them with fewer, or send an rle"
        )


def decode_polygons(polygons: object, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool (H, W): the union of polygons [x0, y0, x1, y1, ...], outlines included.

    Coordinates are rounded to pixel centers; what lies outside of the frame is cut off.
    MaskError for fewer than three points, odd lengths, NaN, or points a frame's size away.
    """
    if not isinstance(polygons, list):
        raise MaskError("polygons are a list of lists [x0, y0, x1, y1, ...]")
    check_points(sum(len(each) // 2 for each in polygons if isinstance(each, list)), size[0])
    outlines = [_contour(polygon, size) for polygon in polygons]
    if outlines:
        _refuse_shares([number for polygon in polygons for number in polygon], "a polygon")
    # Many polygons that fill the frame would be work for seconds.
    cover = sum(int(np.ptp(o[:, 0]) + 1) * int(np.ptp(o[:, 1]) + 1) for o in outlines)
    if cover > MAX_COVER * size[0] * size[1]:
        raise MaskError(f"the polygons cover the frame more than {MAX_COVER} times")
    mask = np.zeros(size, dtype=np.uint8)
    for outline in outlines:
        # One by one: together, fillPoly would cut out what two of them share.
        if len(outline) <= FEW_POINTS:
            cv2.fillPoly(mask, [outline], 1)
        else:
            mask |= _crossed(outline, size)
            cv2.polylines(mask, [outline], isClosed=True, color=1)
    return mask.view(np.bool_)


def _crossed(outline: NDArray[np.int32], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return uint8 (H, W): 1 where an odd number of edges crosses the row to the left.

    What `fillPoly` fills, in time that grows with edges times rows and not with their square.
    """
    height, width = size
    ends = np.stack([outline, np.roll(outline, -1, axis=0)]).astype(np.int64)  # (2, points, 2)
    order = np.argsort(ends[..., 1], axis=0)[..., None]
    (x0, y0), (x1, y1) = np.take_along_axis(ends, order, axis=0).transpose(0, 2, 1)
    first, last = np.clip(y0, 0, height), np.clip(y1, 0, height)  # rows first <= y < last
    lengths = last - first
    until = np.cumsum(lengths)
    inside = np.zeros(size, np.uint8)
    begin = 0
    while begin < len(outline):
        before = until[begin] - lengths[begin]
        end = max(begin + 1, int(np.searchsorted(until, before + CROSSINGS_AT_ONCE, "right")))
        edges = np.repeat(np.arange(begin, end), lengths[begin:end])
        rows = np.arange(len(edges)) + before - (until - lengths - first)[edges]
        # Rounded up: the pixels on an edge are drawn with the outline.
        steps = (rows - y0[edges]) * (x0 - x1)[edges] // np.maximum(y1 - y0, 1)[edges]
        columns = np.maximum(x0[edges] - steps, 0)
        seen = columns < width
        np.bitwise_xor.at(inside, (rows[seen], columns[seen]), 1)
        begin = end
    return np.bitwise_xor.accumulate(inside, axis=1, out=inside)


def _contour(polygon: object, size: tuple[int, int]) -> NDArray[np.int32]:
    """Return int32 (points, 2): x and y of one checked polygon."""
    if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
        raise MaskError("a polygon is a list [x0, y0, x1, y1, ...] of at least three points")
    if not all(type(number) in (int, float) for number in polygon):
        raise MaskError("a polygon has a value that is not a number")
    try:
        points = np.array(polygon, dtype=np.float64).reshape(-1, 2)
    except OverflowError as error:
        raise MaskError("a polygon has a number that is too large") from error
    if not np.isfinite(points).all():
        raise MaskError("a polygon has a value that is not finite")
    frame = np.array(size[::-1])
    if (points < -frame).any() or (points > 2 * frame).any():
        raise MaskError("a polygon has a point far outside of the frame")
    return np.rint(points).astype(np.int32)


def decode_box(box: object, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return bool (H, W): the pixels of a box [x, y, width, height].

    What lies outside is cut off.
    """
    if not isinstance(box, list) or len(box) != 4:
        raise MaskError("a box is [x, y, width, height]")
    if not all(type(value) in (int, float) and abs(value) < 1e9 for value in box):
        raise MaskError("a box has a value that is not a number in range")
    _refuse_shares(box, "a box")
    x, y, width, height = box
    if width <= 0 or height <= 0:
        raise MaskError("a box has a width and a height above 0")
    left, right = (min(max(round(edge), 0), size[1]) for edge in (x, x + width))
    top, bottom = (min(max(round(edge), 0), size[0]) for edge in (y, y + height))
    mask = np.zeros(size, dtype=np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def reaches_beyond(x: Sequence[float], y: Sequence[float], size: tuple[int, int]) -> bool:
    """Return whether coordinates in pixels lie outside of a frame (H, W), its edges included."""
    return min(x) < -0.5 or min(y) < -0.5 or max(x) > size[1] or max(y) > size[0]


def _refuse_shares(numbers: Sequence[float], what: str) -> None:
    """Raise MaskError for what looks like shares of the frame in place of pixels."""
    shares = all(0 <= number <= 1 for number in numbers)
    if shares and not all(float(number).is_integer() for number in numbers):
        raise MaskError(
            f"{what} has numbers from 0 to 1 only: give pixels, not shares of the frame"
        )
