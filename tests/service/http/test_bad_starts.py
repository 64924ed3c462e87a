"""Bad frames, masks, objects and options of a start: each has a problem of its own."""

from __future__ import annotations

import json

import pytest

from tests.support import scene
from tests.support.bad_images import bomb, label_map
from tests.support.running import Api, problem

FRAME = ("frame", scene.png(0))
MASK = ("mask", scene.mask())

BAD_STARTS: dict[str, tuple[list[tuple[str, bytes]], int, str]] = {
    "no frame": ([MASK], 422, "bad-option"),
    "no mask": ([FRAME], 422, "bad-option"),
    "mask and objects": ([FRAME, MASK, ("objects", b"[]")], 422, "bad-option"),
    "two masks": ([FRAME, MASK, MASK], 422, "bad-option"),
    "an unknown part": ([FRAME, MASK, ("masks", b"")], 422, "bad-option"),
    "no image": ([("frame", b"nothing"), MASK], 422, "bad-image"),
    "a truncated frame": ([("frame", scene.jpeg(0)[:-200]), MASK], 422, "truncated-image"),
    "a bomb": ([("frame", bomb(width=50_000, height=50_000)), MASK], 413, "picture-too-large"),
    "too many bytes": ([("frame", bytes(8_000_001)), MASK], 413, "too-large"),
    "no mask image": ([FRAME, ("mask", b"nothing")], 422, "bad-mask"),
    "a JPEG as mask": ([FRAME, ("mask", scene.jpeg(0))], 422, "bad-mask"),
    "a mask that is a bomb": (
        [FRAME, ("mask", bomb(width=50_000, height=50_000))],
        413,
        "picture-too-large",
    ),
    "a mask of another size": (
        [FRAME, ("mask", label_map(1, size=(scene.HEIGHT, 100)))],
        422,
        "wrong-mask-size",
    ),
    "an empty mask": ([FRAME, ("mask", label_map())], 422, "no-objects"),
    "33 objects": ([FRAME, ("mask", label_map(*range(1, 34)))], 422, "too-many-objects"),
}


@pytest.mark.parametrize("name", BAD_STARTS)
def test_a_bad_start_is_refused(api: Api, name: str) -> None:
    parts, status, slug = BAD_STARTS[name]
    assert problem(api.post_start(*parts)) == (status, slug)


def test_thirty_two_objects_are_allowed(api: Api) -> None:
    answer = api.post_start(FRAME, ("mask", label_map(*range(1, 33))))
    assert len(answer.json()["objects"]) == 32


BOX = {"id": 1, "box": [1, 1, 5, 5]}
BAD_OBJECTS: dict[str, tuple[object, int, str]] = {
    "no list": ({}, 422, "bad-option"),
    "none": ([], 422, "no-objects"),
    "no shape": ([{"id": 1}], 422, "bad-option"),
    "two shapes": ([{**BOX, "polygons": [[0, 0, 9, 0, 9, 9]]}], 422, "bad-option"),
    "no id": ([{"box": [1, 1, 5, 5]}], 422, "bad-option"),
    "id 0": ([{**BOX, "id": 0}], 422, "bad-option"),
    "id 255": ([{**BOX, "id": 255}], 422, "bad-option"),
    "an id that is a text": ([{**BOX, "id": "1"}], 422, "bad-option"),
    "an id that is true": ([{**BOX, "id": True}], 422, "bad-option"),
    "an id twice": ([BOX, BOX], 422, "bad-option"),
    "an unknown field": ([{**BOX, "color": "red"}], 422, "bad-option"),
    "a box of three numbers": ([{"id": 1, "box": [1, 1, 5]}], 422, "bad-option"),
    "a box without area": ([{"id": 1, "box": [1, 1, 0, 5]}], 422, "bad-mask"),
    "a box outside": ([{"id": 1, "box": [500, 500, 5, 5]}], 422, "no-objects"),
    "a polygon of two points": ([{"id": 1, "polygons": [[0, 0, 9, 9]]}], 422, "bad-mask"),
    "an odd polygon": ([{"id": 1, "polygons": [[0, 0, 9, 0, 9, 9, 1]]}], 422, "bad-mask"),
    "broken runs": (
        [{"id": 1, "rle": {"size": [scene.HEIGHT, scene.WIDTH], "counts": "~~"}}],
        422,
        "bad-mask",
    ),
    "an RLE of another size": (
        [{"id": 1, "rle": {"size": [9, 9], "counts": "01"}}],
        422,
        "wrong-mask-size",
    ),
    "33 objects": ([{**BOX, "id": number} for number in range(1, 34)], 422, "too-many-objects"),
}


@pytest.mark.parametrize("name", BAD_OBJECTS)
def test_bad_objects_are_refused(api: Api, name: str) -> None:
    objects, status, slug = BAD_OBJECTS[name]
    answer = api.post_start(FRAME, ("objects", json.dumps(objects).encode()))
    assert problem(answer) == (status, slug)


BAD_OPTIONS: dict[str, tuple[bytes, int, str]] = {
    "unknown": (b'{"clip_lenght": 2}', 422, "bad-option"),
    "no object": (b"[]", 422, "bad-option"),
    "a model that is not served": (b'{"model": "sam"}', 404, "unknown-model"),
    "a clip too long": (b'{"clip_length": 5}', 422, "bad-option"),
    "a clip of nothing": (b'{"clip_length": 0}', 422, "bad-option"),
    "half a frame": (b'{"clip_length": 1.5}', 422, "bad-option"),
    "a text for a number": (b'{"memory_size": "9"}', 422, "bad-option"),
    "a text for yes or no": (b'{"memory_gate": "yes"}', 422, "bad-option"),
    "too large a memory": (b'{"memory_size": 17}', 422, "bad-option"),
    "a label of no object": (b'{"labels": {"2": "dog"}}', 422, "bad-option"),
    "a label of no id": (b'{"labels": {"dog": "1"}}', 422, "bad-option"),
    "a key twice": (b'{"clip_length": 1, "clip_length": 2}', 400, "malformed-body"),
    "not a number": (b'{"clip_length": NaN}', 400, "malformed-body"),
    "infinite": (b'{"clip_length": 1e999}', 400, "malformed-body"),
    "broken": (b'{"clip_length": ', 400, "malformed-body"),
    "empty": (b"", 400, "malformed-body"),
    "not UTF-8": (b'{"model": "\xff"}', 400, "malformed-body"),
    "nested deeply": (b"[" * 20_000, 400, "malformed-body"),
    "too long": (b'{"model": "' + b"x" * 70_000 + b'"}', 413, "too-large"),
}


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_are_refused(api: Api, name: str) -> None:
    options, status, slug = BAD_OPTIONS[name]
    assert problem(api.post_start(FRAME, MASK, ("options", options))) == (status, slug)


@pytest.mark.parametrize(
    ("parts", "way_out"),
    [
        ([("frame", bytes(8_000_001)), MASK], "compress it more, or raise TAMVT_MAX_FRAME_BYTES"),
        (
            [("frame", bomb(width=7680, height=4320)), MASK],
            "send it smaller, or raise TAMVT_MAX_FRAME_WIDTH and TAMVT_MAX_FRAME_HEIGHT",
        ),
        (
            [FRAME, ("mask", label_map(*range(1, 34)))],
            "track the others in another session, or raise TAMVT_MAX_OBJECTS",
        ),
    ],
)
def test_a_limit_tells_how_it_is_met_or_raised(
    api: Api, parts: list[tuple[str, bytes]], way_out: str
) -> None:
    assert way_out in api.post_start(*parts).json()["detail"]
