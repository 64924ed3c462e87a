"""Masks that a person gives: a PNG of ids, or a list of shapes; both become one mask per object.

Letters: O objects, H and W the frame's size. Pure and blocking: run it in the thread pool.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.encoding import (
    check_points,
    decode_box,
    decode_polygons,
    decode_rle,
    reaches_beyond,
)
from model.core.image_headers import ImageLimits, PixelError, TooLarge
from model.core.mask_images import read_mask_image
from model.core.masks import MaskError, count_pixels, split_objects
from service.errors import (
    BadMask,
    BadOption,
    NoObjects,
    PictureTooLarge,
    TooManyObjects,
    WrongMaskSize,
)

Size = tuple[int, int]
Masks = NDArray[np.bool_]


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
    """The objects of one frame. Masks are (O, H, W), in the order of object_ids, ascending.

    `notes` tell which objects a mask image shows, what had to be decided to read it, and which
    shapes were cut off at the frame.
    """

    object_ids: tuple[int, ...]
    masks: Masks
    labels: Mapping[int, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_annotation(
    given: Annotation, *, frame_size: Size, limits: ImageLimits, max_objects: int
) -> GivenObjects:
    """Read the objects in a mask image or a list of shapes.

    Raises:
        BadMask, WrongMaskSize, NoObjects: the mask cannot be used.
        BadOption: an id twice, or a shape given in several ways or none.
        TooManyObjects: more than `max_objects`.
        PictureTooLarge: a mask image beyond the limits, which is found before decoding.
    """
    if not isinstance(given, bytes):
        return _from_shapes(given, frame_size, max_objects=max_objects)
    try:
        read = read_mask_image(given, limits)
    except TooLarge as error:
        most = max(limits.max_width, limits.max_height)
        raise PictureTooLarge(f"the mask: {error}", limit=most) from error
    except (MaskError, PixelError) as error:
        raise BadMask(f"the mask: {error}") from error
    labels = read.labels
    _check_size((labels.shape[0], labels.shape[1]), frame_size, name="the mask")
    # Counted before they are split: 254 masks of the largest frame are gigabytes.
    check_count(np.flatnonzero(count_pixels(labels)[1:]), max_objects=max_objects)
    object_ids, masks = split_objects(labels)
    if not object_ids:
        raise NoObjects("no pixel of the mask belongs to an object")
    shown = (f"object {each} ({count} pixels)" for each, count in read.pixels.items())
    notes = (f"the mask shows {', '.join(shown)}", *read.notes)
    return GivenObjects(object_ids, masks, notes=notes)


def check_count(objects: Collection[object], *, max_objects: int) -> None:
    """Raise TooManyObjects unless so many objects are allowed."""
    if len(objects) > max_objects:
        raise TooManyObjects(
            f"{len(objects)} objects; at most {max_objects} are allowed: track the others in "
            "another session, or raise TAMVT_MAX_OBJECTS as far as the model goes"
        )


def _from_shapes(
    given: Sequence[ObjectShape], frame_size: Size, *, max_objects: int
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
    return GivenObjects(
        object_ids=object_ids,
        masks=np.stack([_mask(shape, frame_size) for shape in shapes]),  # (O, H, W)
        labels={shape.object_id: shape.label for shape in shapes if shape.label is not None},
        notes=tuple(
            f"object {shape.object_id} reaches beyond the frame and was cut off there"
            for shape in shapes
            if shape.is_cut(frame_size)
        ),
    )


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
