"""Masks that a person gives, as a picture or as shapes."""

from __future__ import annotations

import tracemalloc
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.encoding import decode_rle, encode_rle
from model.core.image_headers import ImageLimits
from model.core.masks import soft_masks
from model.core.palette import write_label_map
from service.errors import BadMask, BadOption, NoObjects, TooManyObjects, WrongMaskSize
from service.sessions.annotations import Annotation, GivenObjects, ObjectShape, read_annotation
from tests.support.bad_images import bomb

SIZE = (40, 60)


def masks_of(given: GivenObjects) -> NDArray[np.bool_]:
    return np.stack([decode_rle({"size": SIZE, "counts": each.counts}) for each in given.masks])


def read(given: Annotation, *, max_objects: int = 16) -> GivenObjects:
    return read_annotation(
        given, frame_size=SIZE, model_size=(20, 30), limits=ImageLimits(), max_objects=max_objects
    )


def test_a_picture_gives_its_ids_in_order() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:10], labels[20:30] = 9, 2
    given = read(write_label_map(labels))
    assert given.object_ids == (2, 9)
    assert (masks_of(given) == np.stack([labels == 2, labels == 9])).all()
    assert (given.soft == soft_masks(masks_of(given), (20, 30))).all()
    assert {(each.state, each.confidence) for each in given.masks} == {("human", 1.0)}


def test_a_black_and_white_picture_is_object_1() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:10] = 255
    assert read(write_label_map(labels)).object_ids == (1,)


def test_shapes_are_sorted_by_id_with_their_masks_and_labels() -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[5:9, 5:9] = True
    given = read(
        [
            ObjectShape(object_id=8, label="cup", box=[0, 0, 10, 20]),
            ObjectShape(object_id=3, rle=encode_rle(mask)),
            ObjectShape(object_id=5, label="lid", polygons=[[0, 0, 4, 0, 4, 4, 0, 4]]),
        ]
    )
    assert given.object_ids == (3, 5, 8)
    assert (masks_of(given)[0] == mask).all()
    assert [mask.area for mask in given.masks] == [16, 25, 200]
    assert given.labels == {5: "lid", 8: "cup"}


def test_objects_may_overlap() -> None:
    given = read([ObjectShape(1, box=[0, 0, 9, 9]), ObjectShape(2, box=[0, 0, 9, 9])])
    assert given.masks[0].counts == given.masks[1].counts


@pytest.mark.parametrize(
    ("given", "error"),
    [
        (b"no picture", BadMask),
        (write_label_map(np.ones((40, 61), np.uint8)), WrongMaskSize),
        (write_label_map(np.zeros(SIZE, np.uint8)), NoObjects),
        (
            write_label_map(np.arange(2400, dtype=np.uint16).reshape(SIZE).astype(np.uint8) % 200),
            TooManyObjects,
        ),
        ([], NoObjects),
        ([ObjectShape(1)], BadOption),
        ([ObjectShape(1, box=[0, 0, 9, 9], polygons=[])], BadOption),
        ([ObjectShape(1, box=[0, 0, 9, 9]), ObjectShape(1, box=[9, 9, 9, 9])], BadOption),
        ([ObjectShape(1, box=[100, 100, 9, 9])], NoObjects),
        ([ObjectShape(1, polygons=[])], NoObjects),
        ([ObjectShape(1, polygons=[[1, 2, 3]])], BadMask),
        ([ObjectShape(1, rle={"size": [60, 40], "counts": "0"})], WrongMaskSize),
        ([ObjectShape(1, rle={"size": [40, 60], "counts": "!"})], BadMask),
    ],
)
def test_what_cannot_be_used_is_refused(given: Annotation, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        read(given)
    assert type(caught.value) is error


def test_the_number_of_objects_is_limited() -> None:
    shapes = [ObjectShape(object_id, box=[0, 0, 9, 9]) for object_id in (1, 2, 3)]
    with pytest.raises(TooManyObjects, match="3 objects; at most 2"):
        read(shapes, max_objects=2)


def test_what_a_mask_image_shows_is_told() -> None:
    labels = np.zeros(SIZE, np.uint8)
    labels[:10], labels[20:30] = 9, 2
    given = read(write_label_map(labels))
    assert given.notes == ("the mask shows object 2 (600 pixels), object 9 (600 pixels)",)


def test_how_an_unusual_mask_image_was_read_is_told() -> None:
    white = np.zeros(SIZE, np.uint8)
    white[10:30, 10:40] = 255
    _, png = cv2.imencode(".png", cv2.GaussianBlur(white, (0, 0), 1.2))
    shown, decided = read(png.tobytes()).notes
    assert shown.startswith("the mask shows object 1 (")
    assert "soft edges" in decided


@pytest.mark.parametrize(
    ("shape", "cut"),
    [
        ({"box": [50, 30, 20, 5]}, True),
        ({"box": [-3, 0, 20, 5]}, True),
        ({"box": [0, 0, 60, 40]}, False),
        ({"polygons": [[0, 0, 5, 0, 5, 5], [0, 0, 61, 0, 20, 20]]}, True),
        ({"polygons": [[0, 0, 5, -1, 5, 5]]}, True),
        ({"polygons": [[0, 0, 60, 0, 60, 40, 0, 40]]}, False),
    ],
)
def test_shapes_that_reach_beyond_the_frame_are_cut_and_told(
    shape: dict[str, Any], cut: bool
) -> None:
    told = ("object 4 reaches beyond the frame and was cut off there",)
    given = read([ObjectShape(2, box=[0, 0, 9, 9]), ObjectShape(4, **shape)])
    assert given.notes == (told if cut else ())


@pytest.mark.parametrize(
    "shape", [{"box": [0.25, 0.5, 0.5, 0.25]}, {"polygons": [[0, 0, 0.5, 0, 1, 1]]}]
)
def test_shares_of_the_frame_are_refused(shape: dict[str, Any]) -> None:
    with pytest.raises(BadMask, match=r"object 1: .* give pixels, not shares of the frame"):
        read([ObjectShape(1, **shape)])


def test_the_corner_pixel_is_no_share() -> None:
    given = read([ObjectShape(1, box=[0, 0, 1, 1]), ObjectShape(2, polygons=[[0, 0, 0, 0, 0, 0]])])
    assert masks_of(given)[:, 0, 0].all()
    assert masks_of(given).sum() == 2


def test_a_mask_on_its_side_is_told_from_one_of_another_size() -> None:
    with pytest.raises(WrongMaskSize, match="turned as its EXIF data say: draw the mask on the"):
        read(write_label_map(np.ones(SIZE[::-1], np.uint8)))
    with pytest.raises(WrongMaskSize, match="scale the mask to the frame's size"):
        read(write_label_map(np.ones((20, 30), np.uint8)))


def test_ids_are_counted_before_their_masks_are_made() -> None:
    labels = np.repeat(np.arange(254, dtype=np.uint8) + 1, 8)[:, None].repeat(2000, axis=1)
    png = write_label_map(labels)
    tracemalloc.start()
    with pytest.raises(TooManyObjects, match="254 objects"):
        read_annotation(
            png, frame_size=labels.shape, model_size=(20, 30), limits=ImageLimits(), max_objects=16
        )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * labels.size  # 254 masks are 254 bytes a pixel


def test_a_mask_of_another_size_is_not_decoded() -> None:
    with pytest.raises(WrongMaskSize, match="the mask is 4000x3000"):
        read(bomb(width=4000, height=3000))  # undecodable


def test_one_mask_of_the_frames_size_is_in_memory_at_a_time() -> None:
    size = (2000, 2000)
    boxes = [ObjectShape(number, box=[number, 0, 1900, 2000]) for number in range(1, 17)]
    tracemalloc.start()
    read_annotation(
        boxes, frame_size=size, model_size=(256, 256), limits=ImageLimits(), max_objects=16
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * size[0] * size[1]


def test_a_size_is_chosen_for_a_mask_of_a_million_dots_too() -> None:
    """Its run lengths are more than are read of a client."""
    dots = np.zeros((2000, 2000), np.uint8)
    dots[::2, ::2] = 1
    given = read_annotation(
        write_label_map(dots),
        frame_size=dots.shape,
        model_size=lambda width, objects: (20 * objects, 30) if width < 20 else (40, 60),
        limits=ImageLimits(),
        max_objects=16,
    )
    assert given.soft.shape == (1, 20, 30)
    assert given.masks[0].area == 1_000_000


def test_the_points_of_all_objects_are_counted_together() -> None:
    shapes = [ObjectShape(object_id, polygons=[[1.0, 1.0] * 11_000]) for object_id in (1, 2)]
    with pytest.raises(BadMask, match="22000 points"):
        read(shapes)
