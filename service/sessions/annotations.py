"""Masks that a person gives: a PNG of ids, or a list of shapes; both become one mask per object.

Letters: O objects, H and W the frame's size, h and w the model's. One mask of the frame's size is
in memory at a time. Pure and blocking: run it in the thread pool.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.encoding import (
    check_points,
    decode_box,
    decode_polygons,
    decode_rle,
    encode_rle,
    reaches_beyond,
)
from model.core.image_headers import ImageLimits, PixelError, TooLarge, read_header
from model.core.mask_images import read_mask_image
from model.core.masks import MaskError, bounding_box, count_pixels, soft_masks
from model.core.session_size import measure_width
from service.errors import (
    BadMask,
    BadOption,
    NoObjects,
    PictureTooLarge,
    TooManyObjects,
    WrongMaskSize,
)
from service.store.records import ObjectMask, State

# Bytes that a pixel of a frame takes at most: decoded, and while a mask of its size is read.
FRAME_BYTES = 3
MASK_BYTES = 20

Size = tuple[int, int]
Masks = NDArray[np.bool_]
ChooseSize = Callable[[float, int], Size]  # by the thinnest width, in pixels, of so many objects


@dataclass(frozen=True, slots=True)
class ObjectShape:
    """One object as the client draws it: exactly one of RLE, polygons or box is given."""

    object_id: int
    label: str | None = None
    rle: Mapping[str, Any] | None = None
    polygons: Sequence[Sequence[float]] | None = None
    box: Sequence[float] | None = None  # x, y, width, height

    def is_cut(self, frame_size: Size) -> bool:
        """Return whether the box or a polygon reaches beyond the frame."""
        if self.box is not None:
            x, y, width, height = self.box
            return reaches_beyond([x, x + width], [y, y + height], frame_size)
        return any(
            reaches_beyond(polygon[::2], polygon[1::2], frame_size)
            for polygon in self.polygons or ()
        )


# A mask image (PNG), or one shape per object.
Annotation = bytes | Sequence[ObjectShape]


@dataclass(frozen=True, slots=True)
class GivenObjects:
    """The objects of one frame, in the order of object_ids, ascending.

    `masks` are as they are stored, `soft` (O, h, w) as the model takes them.
    `notes` tell which objects a mask image shows, what had to be decided to read it, and which
    shapes were cut off at the frame.
    """

    object_ids: tuple[int, ...]
    masks: tuple[ObjectMask, ...]
    soft: NDArray[np.uint8]
    labels: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_annotation(
    given: Annotation,
    *,
    frame_size: Size,
    model_size: Size | ChooseSize,
    limits: ImageLimits,
    max_objects: int,
) -> GivenObjects:
    """Read the objects in a mask image or a list of shapes.

    Where `model_size` is still to be chosen, the size of `soft` tells what it is.

    Raises:
        BadMask, WrongMaskSize, NoObjects: the mask cannot be used.
        BadOption: an id twice, or a shape given in several ways or none.
        TooManyObjects: more than `max_objects`.
        PictureTooLarge: a mask image beyond the limits, which is found before decoding.
    """
    if not isinstance(given, bytes):
        return _from_shapes(given, frame_size, model_size, max_objects=max_objects)
    try:
        # The size comes first: a larger mask than was counted is not decoded.
        header = read_header(given, limits)
        _check_size((header.height, header.width), frame_size, name="the mask")
        read = read_mask_image(given, limits)
    except TooLarge as error:
        most = max(limits.max_width, limits.max_height)
        raise PictureTooLarge(f"the mask: {error}", limit=most) from error
    except (MaskError, PixelError) as error:
        raise BadMask(f"the mask: {error}") from error
    labels = read.labels
    # Counted before they are split: 254 masks of the largest frame are gigabytes.
    object_ids = (np.flatnonzero(count_pixels(labels)[1:]) + 1).tolist()
    check_count(object_ids, max_objects=max_objects)
    if not object_ids:
        raise NoObjects("no pixel of the mask belongs to an object")
    shown = (f"object {each} ({count} pixels)" for each, count in read.pixels.items())
    notes = (f"the mask shows {', '.join(shown)}", *read.notes)
    masks, soft = _encode(lambda: ((each, labels == each) for each in object_ids), model_size)
    return GivenObjects(tuple(object_ids), masks, soft, notes=notes)


def encode_object_mask(
    object_id: int, mask: Masks, *, confidence: float, state: State
) -> ObjectMask:
    """Encode one object's mask (H, W) as it is stored."""
    x, y, width, height = bounding_box(mask)
    return ObjectMask(
        object_id=object_id,
        counts=encode_rle(mask)["counts"],
        area=int(np.count_nonzero(mask)),
        bbox=(x, y, width, height),
        confidence=confidence,
        state=state,
    )


def check_count(objects: Collection[object], *, max_objects: int) -> None:
    """Raise TooManyObjects unless so many objects are allowed."""
    if len(objects) > max_objects:
        raise TooManyObjects(
            f"{len(objects)} objects; at most {max_objects} are allowed: track the others in "
            "another session, or raise TAMVT_MAX_OBJECTS as far as the model goes"
        )


def _from_shapes(
    given: Sequence[ObjectShape],
    frame_size: Size,
    model_size: Size | ChooseSize,
    *,
    max_objects: int,
) -> GivenObjects:
    if not given:
        raise NoObjects("the list of objects is empty")
    check_count(given, max_objects=max_objects)
    polygons = [polygon for shape in given for polygon in shape.polygons or ()]
    try:
        check_points(sum(len(polygon) // 2 for polygon in polygons), frame_size[0])
    except MaskError as error:
        raise BadMask(str(error)) from error
    shapes = sorted(given, key=lambda shape: shape.object_id)
    object_ids = tuple(shape.object_id for shape in shapes)
    if len(set(object_ids)) < len(object_ids):
        raise BadOption(f"an object id is given twice: {list(object_ids)}")
    masks, soft = _encode(
        lambda: ((shape.object_id, _mask(shape, frame_size)) for shape in shapes), model_size
    )
    return GivenObjects(
        object_ids=object_ids,
        masks=masks,
        soft=soft,
        labels={shape.object_id: shape.label for shape in shapes if shape.label is not None},
        notes=tuple(
            f"object {shape.object_id} reaches beyond the frame and was cut off there"
            for shape in shapes
            if shape.is_cut(frame_size)
        ),
    )


def _encode(
    draw: Callable[[], Iterable[tuple[int, Masks]]], model_size: Size | ChooseSize
) -> tuple[tuple[ObjectMask, ...], NDArray[np.uint8]]:
    """Return each object's mask (H, W) as it is stored, and soft ones as the model takes them.

    Masks are drawn once more where their width has to be known before their size.
    """
    if callable(model_size):
        widths = [measure_width(mask) for _, mask in draw()]
        model_size = model_size(min(widths), len(widths))
    stored: list[ObjectMask] = []
    soft: list[NDArray[np.uint8]] = []
    for object_id, mask in draw():
        stored.append(encode_object_mask(object_id, mask, confidence=1.0, state="human"))
        soft.append(soft_masks(mask[None], model_size)[0])
    return tuple(stored), np.stack(soft)


def _mask(shape: ObjectShape, frame_size: Size) -> Masks:
    """Return one object's pixels, bool (H, W); raise NoObjects if there is none."""
    name = f"object {shape.object_id}"
    if sum(part is not None for part in (shape.rle, shape.polygons, shape.box)) != 1:
        raise BadOption(f"{name} needs exactly one of rle, polygons and box")
    try:
        if shape.rle is not None:
            _check_size(tuple(shape.rle["size"]), frame_size, name=f"the mask of {name}")
            mask = decode_rle(shape.rle, frame_size)
        elif shape.polygons is not None:
            mask = decode_polygons(shape.polygons, frame_size)
        else:
            mask = decode_box(shape.box, frame_size)
    except MaskError as error:
        raise BadMask(f"{name}: {error}") from error
    if not mask.any():
        raise NoObjects(f"no pixel of the frame belongs to {name}")
    return mask


def _check_size(size: tuple[int, ...], frame_size: Size, *, name: str) -> None:
    if size != frame_size:
        on_its_side = size == frame_size[::-1]
        way_out = (
            ", turned as its EXIF data say: draw the mask on the upright picture"
            if on_its_side
            else ": scale the mask to the frame's size, each pixel to its nearest value"
        )
        raise WrongMaskSize(
            f"{name} is {size[1]}x{size[0]}, but the frame is {frame_size[1]}x{frame_size[0]}"
            f"{way_out}"
        )
