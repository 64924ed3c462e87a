"""What people's mask images mean: every way to save one object gives the same object, or a word."""

from __future__ import annotations

import contextlib
import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.core.image_headers import ImageLimits
from model.core.mask_images import MaskImage, read_mask_image
from model.core.masks import MaskError
from model.core.palette import davis_palette

LIMITS = ImageLimits()
Labels = NDArray[np.uint8]


def one_object() -> Labels:
    """A disk with a thin handle, 1 on 0, uint8 (120, 160)."""
    labels = np.zeros((120, 160), np.uint8)
    cv2.circle(labels, (70, 60), 35, 1, -1)
    cv2.rectangle(labels, (100, 57), (140, 60), 1, -1)
    return labels


def two_objects() -> Labels:
    """Two blocks that touch, 1 and 2."""
    labels = np.zeros((120, 160), np.uint8)
    labels[30:90, 30:70], labels[40:80, 70:120] = 1, 2
    return labels


def smooth() -> Labels:
    """The object's brightness with anti-aliased edges, 0 to 255."""
    large = cv2.resize(one_object() * np.uint8(255), (640, 480), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.resize(large, (160, 120), interpolation=cv2.INTER_AREA), np.uint8)


def read(image: NDArray[np.uint8] | Image.Image) -> MaskImage:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, "PNG")
    return read_mask_image(file.getvalue(), LIMITS)


def with_palette(indices: Labels, *colors: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(indices)
    image.putpalette([value for color in colors for value in color])
    return image


def overlap(found: MaskImage, wanted: Labels) -> float:
    return float(
        ((found.labels > 0) & (wanted > 0)).sum() / ((found.labels > 0) | (wanted > 0)).sum()
    )


@pytest.mark.parametrize(("value", "object_id"), [(1, 1), (255, 1), (7, 7), (254, 254)])
def test_one_value_beside_0_is_one_object(value: int, object_id: int) -> None:
    found = read(one_object() * np.uint8(value))
    assert (found.labels == one_object() * object_id).all()
    assert found.notes == ()


def test_ids_in_gray_or_in_any_palette_are_ids() -> None:
    labels = two_objects()
    for image in (
        Image.fromarray(labels),
        with_palette(labels, (9, 9, 9), (200, 30, 30), (10, 20, 200)),
        with_palette(labels, *map(tuple, davis_palette()[:3].tolist())),
    ):
        assert (read(image).labels == labels).all()


def test_soft_edges_are_cut_at_half() -> None:
    found = read(smooth())
    assert overlap(found, one_object()) > 0.98
    assert set(found.pixels) == {1}
    assert "soft edges" in found.notes[0]


@pytest.mark.parametrize("sigma", [0.8, 2.0, 5.0])
def test_blurred_edges_are_cut_at_half(sigma: float) -> None:
    blurred = cv2.GaussianBlur(one_object() * np.uint8(255), (0, 0), sigma)
    found = read(np.asarray(blurred, np.uint8))
    assert (found.labels == (blurred >= 128)).all()


def test_the_noise_of_a_jpeg_is_cut_away() -> None:
    _, data = cv2.imencode(".jpg", one_object() * np.uint8(255), [cv2.IMWRITE_JPEG_QUALITY, 75])
    found = read(np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8))
    assert overlap(found, one_object()) > 0.97


def test_single_pixels_of_other_values_are_noise() -> None:
    mask = one_object() * np.uint8(255)
    mask[5, 5:60:7], mask[60, 45:95:7] = 1, 254
    assert (read(mask).labels == one_object()).all()


def test_a_converters_palette_has_its_background_where_it_is_black() -> None:
    swapped = with_palette(1 - one_object(), (255, 255, 255), (0, 0, 0))
    found = read(swapped)
    assert (found.labels == one_object()).all()
    assert found.notes == ("index 1 of the palette is black, and the background",)
    three = with_palette((two_objects() + 2) % 3, (255, 0, 0), (0, 255, 0), (0, 0, 0))
    assert set(read(three).pixels) == {1, 2}


def test_soft_edges_in_a_gray_palette_are_cut_at_half() -> None:
    rgb = np.repeat(smooth()[..., None], 3, axis=2)
    image = Image.fromarray(rgb).convert("P", palette=Image.Palette.ADAPTIVE, colors=8)
    assert overlap(read(image), one_object()) > 0.95


@pytest.mark.parametrize("mask", [False, True])
def test_one_bit_in_either_order(mask: bool) -> None:
    bits = Image.fromarray(one_object() > 0)
    assert (read(bits).labels == one_object()).all()
    colors = ((255, 255, 255), (0, 0, 0)) if mask else ((0, 0, 0), (255, 255, 255))
    assert (read(with_palette(one_object() ^ np.uint8(mask), *colors)).labels == one_object()).all()


@pytest.mark.parametrize("color", [(255, 0, 0), (250, 50, 83), (1, 2, 3)])
def test_a_flat_color_on_black_is_an_object(color: tuple[int, int, int]) -> None:
    found = read(np.array([(0, 0, 0), color], np.uint8)[one_object()])
    assert (found.labels == one_object()).all()


def test_flat_colors_are_numbered_in_reading_order() -> None:
    found = read(np.array([(0, 0, 0), (90, 200, 10), (250, 50, 83)], np.uint8)[two_objects()])
    assert (found.labels == two_objects()).all()
    assert found.notes == ("object 1 is rgb(90, 200, 10)", "object 2 is rgb(250, 50, 83)")


def test_a_flat_color_with_soft_edges_is_cut_at_half() -> None:
    share = smooth()[..., None] / 255
    found = read(np.rint(share * np.array([250, 50, 83])).astype(np.uint8))
    assert overlap(found, one_object()) > 0.97


def test_without_0_the_border_is_the_background() -> None:
    found = read(one_object() + np.uint8(1))
    assert (found.labels == one_object() * 2).all()
    (told,) = found.notes
    assert "fills the border" in told
    (told,) = read(np.where(one_object() > 0, np.uint8(7), np.uint8(255))).notes
    assert "the value 255, which fills the border, is the background" in told


def test_255_beside_ids_is_ignored() -> None:
    labels = two_objects()
    labels[cv2.dilate(labels, np.ones((5, 5), np.uint8)) > labels] = 255
    found = read(labels)
    assert set(found.pixels) == {1, 2}
    ignored = int((labels == 255).sum())
    assert found.notes == (f"255 beside ids means 'ignore': {ignored} pixels belong to no object",)
    labels = two_objects()
    labels[95:118, 10:150] = 255
    assert set(read(labels).pixels) == {1, 2}


@pytest.mark.parametrize("labels", [(0, 1, 2), (0, 7, 30)])
def test_a_small_or_thin_object_keeps_its_id(labels: tuple[int, int, int]) -> None:
    drawn = two_objects()
    drawn[drawn == 2] = 0
    drawn[58:60, 70:110] = 2  # two pixels thin, and beside object 1
    drawn[10:14, 140:144] = 2
    assert set(read(np.array(labels, np.uint8)[drawn]).pixels) == set(labels[1:])
    colors = np.array([(0, 0, 0), (200, 30, 30), (10, 20, 200)], np.uint8)
    assert set(read(colors[drawn]).pixels) == {1, 2}


REFUSED = {
    "soft edges between two objects": (
        cv2.GaussianBlur(two_objects() * np.uint8(100), (0, 0), 1.5),
        "soft",
    ),
    "a trimap": (
        np.where(
            cv2.dilate(one_object(), np.ones((15, 15))) > one_object(), 128, one_object() * 255
        ),
        "trimap",
    ),
    "a photograph": (
        np.random.default_rng(0).integers(0, 256, (120, 160, 3)),
        "photograph",
    ),
    "no background": (two_objects() + 3, "no pixel is 0"),
    "soft edges between two colors": (
        cv2.GaussianBlur(
            np.array([(0, 0, 0), (200, 30, 30), (10, 20, 200)], np.uint8)[two_objects()],
            (0, 0),
            0.6,
        ),
        "flat color|edges",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unclear_is_refused_with_the_way_out(name: str) -> None:
    image, message = REFUSED[name]
    with pytest.raises(MaskError, match=message):
        read(np.asarray(image, np.uint8))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.booleans())
def test_any_few_values_are_read_or_refused(seed: int, values: int, color: bool) -> None:
    rng = np.random.default_rng(seed)
    table = rng.integers(0, 256, (values, 3) if color else values, dtype=np.uint8)
    coarse = rng.integers(0, values, (6, 8))
    labels = cv2.resize(coarse.astype(np.uint8), (48, 36), interpolation=cv2.INTER_NEAREST)
    with contextlib.suppress(MaskError):
        found = read(table[labels])
        assert found.labels.shape == (36, 48)
        assert sum(found.pixels.values()) <= 36 * 48
