"""What a mask image that a person saved means: which value is the background, which are objects.

A mask says what it means by its values (gray or palette) or by its flat colors. Two things hide
that: soft edges, as paint programs draw them, and palettes that were sorted by a converter. What
is clear is read, what is not is refused with a sentence that tells what was seen and the way out
(decision 54). H and W are the image's height and width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.image_headers import ImageLimits
from model.core.masks import IGNORE, MaskError, count_pixels
from model.core.palette import davis_palette, open_mask

CORE_PX = 50  # pixels of a region of its own that lie two pixels away from every other value
SPECK_PX = 3  # the largest part of what is noise
BETWEEN = 0.6  # share of a value's pixels between darker and brighter ones: a soft edge
INTENSITY = 128  # from here on a value is more likely a brightness than an id
MOST_VALUES = 32  # of ids in one image; more of them are brightnesses
NEAR = 24  # how far from black or from the object's own brightness noise may go
MIXED = 12.0  # how near a color lies to the line between two others that it is a mix of
_TRIMAP = "the value 255 lies within a band of another value, as in a trimap: what is the object?"
_WAY_OUT = "save it without anti-aliasing, with one flat value or color for each object"

Values = NDArray[np.uint8]
Colors = NDArray[np.uint8]  # (K, 3)


@dataclass(frozen=True, slots=True)
class MaskImage:
    """The label map uint8 (H, W) of a mask image, and what had to be decided to read it."""

    labels: Values
    notes: tuple[str, ...] = ()

    @property
    def pixels(self) -> dict[int, int]:
        """Return how many pixels each object has, by its id."""
        counts = count_pixels(self.labels)
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value}


def read_mask_image(png: bytes, limits: ImageLimits) -> MaskImage:
    """Return what a person's mask image means, 255 settled.

    Raise PixelError where the bytes are no complete image within `limits`, MaskError where what
    is meant is not clear.
    """
    opened = open_mask(png, limits)
    if opened.colors is not None:
        return _with_ignored(opened.values, _read_palette(opened.values, opened.colors))
    if opened.values.ndim == 2:
        return _with_ignored(opened.values, _read_values(opened.values))
    return _read_rgb(opened.values)


def _with_ignored(values: Values, read: MaskImage) -> MaskImage:
    """Return what was read, with a note where 255 beside ids was left out."""
    ignored = int(((values == IGNORE) & (read.labels == 0)).sum())
    if not ignored or not read.labels.any() or values.all():
        return read
    note = f"255 beside ids means 'ignore': {ignored} pixels belong to no object"
    return MaskImage(read.labels, (*read.notes, note))


def _read_values(values: Values) -> MaskImage:
    """Return gray values: ids, or the brightness of one object with soft edges."""
    used = np.flatnonzero(count_pixels(values)).tolist()
    background, notes = _find_background(values, used)
    if background:
        values = np.where(values == background, 0, np.where(values == 0, background, values))
    objects = [value for value in np.flatnonzero(count_pixels(values)).tolist() if value]
    if len(objects) < 2:
        return MaskImage(_one_object(values, objects), notes)
    if max(objects) <= MOST_VALUES:  # nobody draws an object that dark: these are ids
        return MaskImage(values, notes)
    regions, soft, specks = _classify(values, objects)
    if not soft and not _is_noise(regions, specks, objects):
        if _is_trimap(values, objects):
            raise MaskError(f"{_TRIMAP}; {_WAY_OUT}")
        return MaskImage(_ids(values, objects), notes)
    strongest = max(regions or objects)
    if strongest < INTENSITY or any(NEAR < value < strongest - NEAR for value in regions):
        raise MaskError(_soft_edges(soft or specks, regions))
    cut = (values >= (strongest + 1) // 2).astype(np.uint8)
    note = f"values between 0 and {strongest} are soft edges or noise: cut at half"
    return MaskImage(cut * np.uint8(1 if strongest == IGNORE else strongest), (*notes, note))


def _find_background(values: Values, used: list[int]) -> tuple[int, tuple[str, ...]]:
    """Return the value of the background, and a note where it is not 0."""
    if 0 in used or len(used) == 1:
        return 0, ()
    if len(used) > 2:
        raise MaskError(
            f"no pixel is 0, the background, but {len(used)} values occur: "
            "give the background the value 0"
        )
    most = _find_border_value(values)
    return most, (f"no pixel is 0: the value {most}, which fills the border, is the background",)


def _find_border_value(values: NDArray[np.generic]) -> int:
    """Return the value that most of the border's pixels have."""
    border = np.concatenate((values[0], values[-1], values[:, 0], values[:, -1]))
    found, counts = np.unique(border, return_counts=True)
    return int(found[counts.argmax()])


def _one_object(values: Values, objects: list[int]) -> Values:
    if objects == [IGNORE]:
        return (values > 0).astype(np.uint8)
    return values


def _ids(values: Values, objects: list[int]) -> Values:
    """Return the ids; 255 means "ignore" beside others, and becomes background."""
    return np.where(values == IGNORE, 0, values) if len(objects) > 1 else values


def _classify(values: Values, objects: list[int]) -> tuple[set[int], set[int], set[int]]:
    """Return which values have a region of their own, which live along edges, which are specks.

    What is none of them is a small or thin object.
    """
    cores = np.bincount(values[_is_core(values)], minlength=256)
    regions = {value for value in objects if cores[value] >= CORE_PX}
    counts = count_pixels(values)
    around = np.ones((5, 5), np.uint8)
    between = (cv2.dilate(values, around) > values) & (cv2.erode(values, around) < values)
    edges = np.bincount(values[between], minlength=256)
    others = [value for value in objects if value not in regions]
    many = len(objects) > MOST_VALUES
    soft = {value for value in others if many or edges[value] >= BETWEEN * counts[value]}
    left = [value for value in others if value not in soft]
    return regions, soft, {value for value in left if _largest_part(values == value) <= SPECK_PX}


def _is_core(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where all pixels up to two away have the same value."""
    around = np.ones((5, 5), np.uint8)
    return np.asarray(cv2.dilate(values, around) == cv2.erode(values, around), dtype=np.bool_)


def _largest_part(mask: NDArray[np.bool_]) -> int:
    areas = cv2.connectedComponentsWithStats(mask.view(np.uint8))[2][1:, cv2.CC_STAT_AREA]
    return int(areas.max(initial=0))


def _is_noise(regions: set[int], specks: set[int], objects: list[int]) -> bool:
    """Return whether all that lies beside one bright region are specks, as a JPEG leaves them."""
    rest = set(objects) - regions
    return len(regions) == 1 and max(regions) >= INTENSITY and bool(rest) and rest == specks


def _is_trimap(values: Values, objects: list[int]) -> bool:
    """Return whether a band of a middle gray lies everywhere around the white."""
    if len(objects) != 2 or objects[1] != IGNORE or not 64 <= objects[0] <= 192:
        return False
    white = (values == IGNORE).astype(np.uint8)
    rim = values[(cv2.dilate(white, np.ones((3, 3), np.uint8)) > white)]
    return bool(rim.size and (rim == objects[0]).mean() > 0.95)


def _soft_edges(soft: set[int], regions: set[int]) -> str:
    shown = ", ".join(map(str, sorted(soft)[:6])) + (", ..." if len(soft) > 6 else "")
    beside = f" beside the regions of {', '.join(map(str, sorted(regions)))}" if regions else ""
    return f"the values {shown} occur only along edges{beside}: the edges are soft; {_WAY_OUT}"


def _read_palette(values: Values, colors: Colors) -> MaskImage:
    """Return indices of a palette: ids, unless its colors say that it was sorted by a converter."""
    used = np.flatnonzero(count_pixels(values)).astype(np.uint8)
    if (colors[used] == davis_palette()[used]).all():
        return MaskImage(_settled(values))
    is_gray = bool((colors[used] == colors[used, :1]).all())
    if is_gray and len(used) > 2:
        gray = colors[values, 0]
        if _classify(gray, [value for value in np.unique(gray).tolist() if value])[1]:
            return _read_values(gray)
    elif len(used) > 2 and _has_soft_edges(values, used, colors):
        return _read_rgb(colors[values])
    black = [int(index) for index in used if not colors[index].any()]
    if black and 0 not in black:
        objects = [int(index) for index in used if index not in black]
        table = np.zeros(256, np.uint8)
        table[objects] = np.arange(1, len(objects) + 1)
        note = f"index {black[0]} of the palette is black, and the background"
        return MaskImage(table[values], (note,))
    return MaskImage(_settled(values)) if 0 in used else _read_values(values)


def _settled(values: Values) -> Values:
    objects = [value for value in np.flatnonzero(count_pixels(values)).tolist() if value]
    return _one_object(values, objects) if len(objects) < 2 else _ids(values, objects)


def _has_soft_edges(values: Values, used: NDArray[np.uint8], colors: Colors) -> bool:
    """Return whether an index without a region of its own is a soft edge between two others."""
    cores = np.bincount(values[_is_core(values)], minlength=256)
    flat = [int(index) for index in used if cores[index] >= CORE_PX]
    if not flat:
        return False
    rest = [int(index) for index in used if cores[index] < CORE_PX]
    return any(_is_soft_edge(values, index, flat, colors) for index in rest)


def _is_soft_edge(values: NDArray[Any], index: int, flat: list[int], colors: Colors) -> bool:
    """Return whether a color mixes the two `flat` ones beside it, and lies where they meet."""
    pixels, around = values == index, np.ones((5, 5), np.uint8)
    beside = cv2.dilate(pixels.view(np.uint8), around) > pixels
    counts = np.bincount(values[beside], minlength=len(colors))[flat]
    one, *rest = [flat[number] for number in np.argsort(-counts)[:2]]
    if not rest or not _is_mix(colors[index], colors[one], colors[rest[0]]):
        return False
    near = [cv2.dilate((values == each).view(np.uint8), around) > 0 for each in (one, rest[0])]
    return bool((near[0] & near[1])[pixels].mean() >= BETWEEN)


def _is_mix(color: Colors, one: Colors, other: Colors) -> bool:
    """Return whether a color lies on the line between two others, and is neither."""
    start, way = one.astype(float), other.astype(float) - one
    share = float((color - start) @ way / max(way @ way, 1e-9))
    return 0.02 < share < 0.98 and float(np.linalg.norm(color - (start + share * way))) < MIXED


def _read_rgb(rgb: Values) -> MaskImage:
    """Read flat colors (H, W, 3): gray values, DAVIS's, or black and a color for each object."""
    if (rgb == rgb[..., :1]).all():
        return _read_gray_rgb(rgb)
    indices, found, counts = _index_colors(rgb)
    colors = np.stack([found >> 16 & 255, found >> 8 & 255, found & 255], axis=1).astype(np.uint8)
    davis = {tuple(color): number for number, color in reversed([*enumerate(davis_palette())])}
    known = [davis.get(tuple(color)) for color in colors] if len(colors) <= 256 else [None]
    if None not in known:
        return MaskImage(_settled(np.array(known, np.uint8)[indices]))
    return _read_flat_colors(indices, colors, counts)


def _index_colors(
    rgb: Values,
) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.intp]]:
    """Return which color (H, W), the colors (K) as 0xRRGGBB, and how often each occurs.

    A strip of the image at a time: all at once take 50 bytes a pixel.
    """
    strips = np.array_split(rgb, max(1, rgb.size >> 20))
    weights = np.array([1 << 16, 1 << 8, 1], np.uint32)
    found = np.zeros(0, np.uint32)
    for strip in strips:
        found = np.union1d(found, strip.astype(np.uint32) @ weights)
        if len(found) > np.iinfo(np.uint16).max:
            raise MaskError("more than " + _too_many_colors(np.iinfo(np.uint16).max))
    indices = np.empty(rgb.shape[:2], np.uint16)
    counts = np.zeros(len(found), np.intp)
    for strip, rows in zip(strips, np.array_split(indices, len(strips)), strict=True):
        rows[:] = np.searchsorted(found, strip.astype(np.uint32) @ weights)
        counts += np.bincount(rows.ravel(), minlength=len(found))
    return indices, found, counts


def _read_gray_rgb(rgb: Values) -> MaskImage:
    """Return an RGB image in gray.

    Refused where a value is also a color of DAVIS with another id.
    """
    gray = np.ascontiguousarray(rgb[..., 0])
    used = np.unique(gray)
    by_color = {
        int(color[0]): number
        for number, color in enumerate(davis_palette()[:22])
        if (color == color[0]).all()
    }
    if len(used) <= 3 and any(by_color.get(int(value), value) != value for value in used):
        raise MaskError("an RGB mask in gray is unclear: save it as gray or with a palette")
    return _read_values(gray)


def _read_flat_colors(
    indices: NDArray[np.uint16], colors: Colors, counts: NDArray[np.intp]
) -> MaskImage:
    """Read colors (K, 3), each where (H, W) says; black, or what fills the border, is none."""
    cores = np.bincount(indices[_is_core(indices)], minlength=len(colors))
    flat = [int(number) for number in np.flatnonzero(cores >= CORE_PX)]
    black = [number for number, color in enumerate(colors) if not color.any()]
    notes: tuple[str, ...] = ()
    if len(flat) > MOST_VALUES or (not flat and len(colors) > MOST_VALUES):
        raise MaskError(_too_many_colors(len(colors)))
    if black:
        background = black[0]
    elif len(flat) == 2 or len(colors) == 2:
        background = _find_border_value(indices)
        shown = _shown(colors[background])
        notes = (f"no pixel is black: {shown} fills the border, and is the background",)
    else:
        raise MaskError(
            f"no pixel is black, the background, and {len(colors)} colors occur: {_WAY_OUT}"
        )
    objects = [number for number in flat if number != background]
    rest = [n for n in range(len(colors)) if n not in flat and n != background]
    if len(objects) == 1 and len(rest) > MOST_VALUES:
        if _share_mixed(colors, counts, rest, (background, objects[0])) < 0.95:
            raise MaskError(_too_many_colors(len(colors)))
        return _labeled_colors(indices, colors, background, objects, soft=True, notes=notes)
    if len(rest) > MOST_VALUES:
        raise MaskError(_too_many_colors(len(colors)))
    soft = [n for n in rest if _is_soft_edge(indices, n, [background, *objects], colors)]
    if soft and len(objects) > 1:
        shown = "1 color occurs" if len(soft) == 1 else f"{len(soft)} colors occur"
        raise MaskError(f"{shown} only along edges: the edges are soft; {_WAY_OUT}")
    objects += [n for n in rest if n not in soft]  # small or thin ones
    return _labeled_colors(indices, colors, background, objects, soft=bool(soft), notes=notes)


def _share_mixed(
    colors: Colors, counts: NDArray[np.intp], rest: list[int], pair: tuple[int, int]
) -> float:
    """Return the share of the pixels of the `rest` whose colors lie on the line of a pair."""
    start, end = colors[list(pair)].astype(float)
    way = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
    apart = colors[rest] - start
    off = np.linalg.norm(apart - (apart @ way)[:, None] * way, axis=1)
    return float(counts[rest][off < MIXED].sum() / max(1, counts[rest].sum()))


def _labeled_colors(
    indices: NDArray[np.uint16],
    colors: Colors,
    background: int,
    objects: list[int],
    *,
    soft: bool,
    notes: tuple[str, ...],
) -> MaskImage:
    """Return number the objects in reading order; of one with soft edges, cut them at half."""
    table = np.zeros(len(colors), np.uint8)
    if soft:
        way = colors[objects[0]].astype(float) - colors[background]
        share = (colors.astype(float) - colors[background]) @ way / (way @ way)
        table[share >= 0.5] = 1
        ends = f"{_shown(colors[background])} and {_shown(colors[objects[0]])}"
        notes += (f"colors between {ends} are soft edges: cut at half",)
    else:
        first = {number: int((indices.ravel() == number).argmax()) for number in objects}
        for object_id, number in enumerate(sorted(objects, key=first.__getitem__), start=1):
            table[number] = object_id
            notes += (f"object {object_id} is {_shown(colors[number])}",)
    return MaskImage(table[indices], notes)


def _shown(color: Colors) -> str:
    return f"rgb({', '.join(str(int(value)) for value in color)})"


def _too_many_colors(count: int) -> str:
    return f"{count} colors occur, as in a photograph: a mask has one flat color for each object"
