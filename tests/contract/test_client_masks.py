"""The client's few lines for masks, against what the service computes with."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from model.core import encoding, masks, palette
from model.core.image_headers import ImageLimits
from tamvt_client import masks as client

shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)
binary = arrays(np.bool_, shapes)
label_maps = arrays(np.uint8, shapes)


@settings(max_examples=300, deadline=None)
@given(mask=binary)
def test_an_rle_is_the_same_on_both_sides(mask: NDArray[np.bool_]) -> None:
    ours, theirs = client.encode_rle(mask), encoding.encode_rle(mask)
    assert (list(ours["size"]), ours["counts"]) == (theirs["size"], theirs["counts"])
    assert (client.decode_rle(theirs) == mask).all()


@settings(max_examples=300, deadline=None)
@given(mask=binary)
def test_polygons_cover_the_same_pixels_on_both_sides(mask: NDArray[np.bool_]) -> None:
    polygons = encoding.encode_polygons(mask)
    expected = encoding.decode_polygons(polygons, (mask.shape[0], mask.shape[1]))
    assert (client.decode_polygons(polygons, (mask.shape[0], mask.shape[1])) == expected).all()


@settings(max_examples=100, deadline=None)
@given(labels=label_maps)
def test_a_palette_png_is_the_same_on_both_sides(labels: NDArray[np.uint8]) -> None:
    png = client.write_label_map(labels)
    assert png == palette.write_label_map(labels)
    assert (client.read_label_map(png) == labels).all()
    settled = masks.settle_ignored(labels)
    assert (palette.read_label_map(png, ImageLimits()) == settled).all()


def test_overlapping_masks_are_laid_over_each_other_alike() -> None:
    random = np.random.default_rng(0)
    given = [(number, random.random((9, 7)) < 0.5) for number in (3, 200, 1)]
    expected = masks.overlay_masks(given, (9, 7))
    assert (client.overlay_masks(given, (9, 7)) == expected).all()
