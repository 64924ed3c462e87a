"""Masks as COCO writes them."""

import math
import time
import tracemalloc
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pycocotools import mask as coco

from model.core.encoding import (
    IntricateMask,
    decode_box,
    decode_polygons,
    decode_rle,
    encode_polygons,
    encode_rle,
    find_outlines,
)
from model.core.masks import MaskError

MASKS = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24))
COUNTS = {"size": [4, 4], "counts": "33:"}  # three of background, three of object, ten of it


def coco_counts(mask: NDArray[np.bool_]) -> str:
    counts = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return str(counts, "ascii")


def coco_mask(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    with warnings.catch_warnings():
        # pycocotools still lacks an argument that numpy 2 asks for.
        warnings.filterwarnings("ignore", "__array__", category=DeprecationWarning)
        decoded = coco.decode({"size": rle["size"], "counts": rle["counts"].encode()})
    return np.asarray(decoded, dtype=np.bool_)


def without_holes(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return decode_polygons(encode_polygons(mask), mask.shape)


@given(MASKS)
def test_rle_loses_nothing(mask: NDArray[np.bool_]) -> None:
    assert (decode_rle(encode_rle(mask)) == mask).all()


@given(MASKS)
def test_rle_is_what_pycocotools_writes(mask: NDArray[np.bool_]) -> None:
    rle = encode_rle(mask)
    assert rle == {"size": list(mask.shape), "counts": coco_counts(mask)}


def test_rle_of_a_large_mask_is_what_pycocotools_writes(blob: NDArray[np.bool_]) -> None:
    large = np.kron(blob, np.ones((5, 5), dtype=np.bool_))
    for mask in (large, ~large, np.zeros_like(large), np.ones_like(large)):
        rle = encode_rle(mask)
        assert rle["counts"] == coco_counts(mask)
        assert (decode_rle(rle, mask.shape) == mask).all()


def test_pycocotools_reads_our_rle(blob: NDArray[np.bool_]) -> None:
    assert (coco_mask(encode_rle(blob)) == blob).all()


def test_a_decoded_mask_is_bool_and_contiguous() -> None:
    mask = decode_rle(COUNTS)
    assert mask.dtype == np.bool_
    assert mask.flags.c_contiguous
    assert np.flatnonzero(mask.T).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    "rle",
    [
        {},
        {"size": [4, 4]},
        {**COUNTS, "more": 1},
        {**COUNTS, "size": [4, 5]},
        {**COUNTS, "size": [4]},
        {**COUNTS, "size": [4, 4, 1]},
        {**COUNTS, "size": [4.0, 4]},
        {**COUNTS, "size": [True, 16]},
        {**COUNTS, "size": [-4, -4]},
        {**COUNTS, "size": [0, 0]},
        {**COUNTS, "size": ["4", "4"]},
        {**COUNTS, "size": "44"},
        {**COUNTS, "size": None},
        {**COUNTS, "size": [100_000, 100_000]},
        {**COUNTS, "size": [10**30, 10**30]},
        {**COUNTS, "counts": ""},
        {**COUNTS, "counts": "33"},
        {**COUNTS, "counts": "3339"},
        {**COUNTS, "counts": "33:0:"},
        {**COUNTS, "counts": "3O3>"},  # a run of -1
        {**COUNTS, "counts": "33:`"},
        {**COUNTS, "counts": "33 :"},
        {**COUNTS, "counts": "33\x7f"},
        {**COUNTS, "counts": "33é"},
        {**COUNTS, "counts": "\U0001f600"},
        {**COUNTS, "counts": "oooooooooooooo0"},
        {**COUNTS, "counts": "oooooo?" * 50},
        {**COUNTS, "counts": "0" * 3_000_000},
        {**COUNTS, "counts": [3, 3, 9]},
        {**COUNTS, "counts": [3, -3, 16]},
        {**COUNTS, "counts": [3, 3.0, 10]},
        {**COUNTS, "counts": [3, True, 12]},
        {**COUNTS, "counts": [10**30]},
        {**COUNTS, "counts": [0] * 2_000_001},
        {**COUNTS, "counts": b"33:"},
        {**COUNTS, "counts": None},
        [4, 4],
        None,
        "33:",
    ],
)
def test_a_wrong_rle_is_refused(rle: Mapping[str, Any]) -> None:
    with pytest.raises(MaskError):
        decode_rle(rle)


def test_runs_that_are_not_compressed_are_read_too() -> None:
    assert (decode_rle({**COUNTS, "counts": [3, 3, 10]}) == decode_rle(COUNTS)).all()


def test_counts_are_limited_before_they_are_read() -> None:
    with pytest.raises(MaskError, match="may have 2000000 characters"):
        decode_rle({**COUNTS, "counts": "é" * 2_000_001})


@given(st.integers(0, 2**32))
def test_many_edges_fill_what_few_edges_fill(seed: int) -> None:
    random = np.random.default_rng(seed)
    size = (int(random.integers(2, 60)), int(random.integers(2, 60)))
    corners = random.integers(0, size[::-1], (int(random.integers(3, 40)), 2))
    # Every corner many times: no other shape, but too many points for OpenCV.
    many = np.repeat(corners, 250, axis=0)
    few_points, many_points = corners.ravel().tolist(), many.ravel().tolist()
    assert (decode_polygons([many_points], size) == decode_polygons([few_points], size)).all()


@pytest.mark.parametrize(("points", "rows"), [(20_000, 96), (12_000, 4096)])
def test_the_most_points_are_filled_in_seconds(points: int, rows: int) -> None:
    corners = np.random.default_rng(0).integers(0, (128, rows), (points, 2))
    begin = time.process_time()
    decode_polygons([corners.ravel().tolist()], (rows, 128))
    assert time.process_time() - begin < 8  # OpenCV alone: 23 s, 10 s


@pytest.mark.parametrize(("points", "rows"), [(20_001, 96), (12_208, 4096)])
def test_more_points_are_refused_with_a_way_out(points: int, rows: int) -> None:
    with pytest.raises(MaskError, match="draw them with fewer, or send an rle"):
        decode_polygons([[1.0, 1.0] * points], (rows, 128))


def test_dots_are_no_polygons() -> None:
    dots = np.zeros((2048, 2048), np.bool_)
    dots[::2, ::2] = True
    with pytest.raises(IntricateMask, match="more than 10000 parts"):
        encode_polygons(dots)
    assert len(encode_polygons(dots[:200, :200])) == 10_000


def test_holes_are_outlines_and_what_reaches_the_edge_is_none() -> None:
    sieve = np.ones((64, 64), np.bool_)
    sieve[1:21:2, 1:21:2] = False  # 100 holes
    sieve[::2, 40:] = False  # 32 bays
    assert len(find_outlines(sieve, most=101, holes=True)) == 101
    assert len(find_outlines(sieve, most=1)) == 1
    with pytest.raises(IntricateMask, match="more than 100 parts and holes"):
        find_outlines(sieve, most=100, holes=True)


def test_an_outline_of_too_many_points_is_no_polygon() -> None:
    comb = np.zeros((1024, 1024), np.bool_)
    comb[:, 0] = comb[::4] = comb[1::4, ::2] = True
    with pytest.raises(IntricateMask):
        encode_polygons(comb)


def test_a_mask_of_many_runs_is_written_in_little_memory() -> None:
    noise = np.random.default_rng(0).random((1000, 1000)) < 0.5
    tracemalloc.start()
    rle = encode_rle(noise)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rle["counts"] == coco_counts(noise)
    assert peak < 50 * noise.size


def test_an_rle_must_have_the_expected_size() -> None:
    with pytest.raises(MaskError, match=r"expected \[5, 4\]"):
        decode_rle(COUNTS, (5, 4))


@given(st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=40))
def test_any_counts_are_decoded_or_refused(counts: str) -> None:
    rle = {"size": [4, 6], "counts": counts}
    try:
        mask = decode_rle(rle)
    except MaskError:
        return
    assert (coco_mask(rle) == mask).all()


def test_polygons_of_a_mask_without_holes_give_it_back() -> None:
    mask = np.zeros((20, 30), dtype=np.bool_)
    mask[3:9, 4:18] = True
    mask[9:15, 10] = True  # a line
    mask[0, 29] = True  # a single pixel
    mask[17, 2:4] = True  # two
    assert (without_holes(mask) == mask).all()


@given(MASKS)
def test_polygons_give_back_a_mask_with_its_holes_filled(mask: NDArray[np.bool_]) -> None:
    filled = without_holes(mask)
    assert (filled | ~mask).all()
    assert (without_holes(filled) == filled).all()


def test_holes_are_filled(blob: NDArray[np.bool_]) -> None:
    assert not blob[170, 260]
    assert without_holes(blob)[170, 260]


def test_polygons_are_plain_numbers(blob: NDArray[np.bool_]) -> None:
    polygons = encode_polygons(blob)
    assert len(polygons) == 2
    assert all(type(number) is float for polygon in polygons for number in polygon)
    assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in polygons)


def test_an_empty_mask_has_no_polygons() -> None:
    assert encode_polygons(np.zeros((4, 5), dtype=np.bool_)) == []
    assert not decode_polygons([], (4, 5)).any()


def test_a_polygon_includes_its_outline() -> None:
    mask = decode_polygons([[1, 1, 3.4, 1, 3, 2.6, 1, 3]], (5, 6))
    assert mask.astype(int).tolist() == [[0] * 6, *[[0, 1, 1, 1, 0, 0]] * 3, [0] * 6]


def test_polygons_are_united() -> None:
    square = [0, 0, 3, 0, 3, 3, 0, 3]
    assert decode_polygons([square, square], (6, 6)).sum() == 16


def test_what_lies_outside_is_cut_off() -> None:
    assert decode_polygons([[-3, -3, 9, -3, 9, 9, -3, 9]], (5, 6)).all()


@pytest.mark.parametrize(
    "polygons",
    [
        None,
        {},
        "polygon",
        [1, 2, 3, 4, 5, 6],
        [[]],
        [[1, 1, 2, 2]],
        [[1, 1, 2, 2, 3]],
        [[1, 1, 2, 2, 3, 3, 4]],
        [[1, 1, 2, 2, 3, math.nan]],
        [[1, 1, 2, 2, 3, math.inf]],
        [[1, 1, 2, 2, 3, "4"]],
        [[1, 1, 2, 2, 3, True]],
        [[1, 1, 2, 2, 3, None]],
        [[1, 1, 2, 2, 3, 1e300]],
        [[1, 1, 2, 2, 3, 10**400]],
        [[1, 1, 2, 2, 3, -100]],
        [[0, 0, 9, 0, 9, 9, 0, 9]] * 200,
        [[0, 0, 9, 0, 9, 9] * 200_000],
    ],
)
def test_wrong_polygons_are_refused(polygons: object) -> None:
    with pytest.raises(MaskError):
        decode_polygons(polygons, (10, 10))


def test_a_box_is_a_rectangle_of_pixels() -> None:
    mask = decode_box([1, 2, 3, 1.2], (5, 6))
    assert np.argwhere(mask).tolist() == [[2, 1], [2, 2], [2, 3]]
    assert decode_box([-5, -5, 50, 50], (5, 6)).all()
    assert not decode_box([7, 7, 2, 2], (5, 6)).any()


@pytest.mark.parametrize(
    "box",
    [
        None,
        [1, 2, 3],
        [1, 2, 0, 4],
        [1, 2, 3, -4],
        [1, 2, math.nan, 4],
        [1, 2, math.inf, 4],
        ["1"] * 4,
    ],
)
def test_a_wrong_box_is_refused(box: object) -> None:
    with pytest.raises(MaskError):
        decode_box(box, (10, 10))
