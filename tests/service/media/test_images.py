"""Pictures to bytes and back."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.image_headers import PixelError
from service.media.images import (
    LARGE_BYTES,
    decode_image,
    encode_jpeg,
    encode_png,
    fitting_image,
    name_media_type,
)


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    columns = np.linspace(0, 255, 40).astype(np.uint8)
    return np.stack([np.tile(columns, (30, 1)), np.full((30, 40), 99, np.uint8)] * 2, -1)[..., :3]


def test_a_png_keeps_every_pixel(picture: NDArray[np.uint8]) -> None:
    assert (decode_image(encode_png(picture)) == picture).all()


def test_a_jpeg_keeps_the_order_of_colors(picture: NDArray[np.uint8]) -> None:
    off = decode_image(encode_jpeg(picture)).astype(int) - picture
    assert np.abs(off).mean() < 4


def test_equal_pictures_give_equal_bytes(picture: NDArray[np.uint8]) -> None:
    assert encode_jpeg(picture) == encode_jpeg(picture.copy())


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_image(data)


def test_the_first_bytes_tell_the_media_type(picture: NDArray[np.uint8]) -> None:
    _, webp = cv2.imencode(".webp", picture)
    given = [
        encode_jpeg(picture),
        encode_png(picture),
        webp.tobytes(),
        b"\x1a\x45\xdf\xa3 and more",
        b"\0\0\0\x18ftypisom",
        b"\0\0\0\x14ftypqt  ",
        b"?",
    ]
    assert [name_media_type(data) for data in given] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        "video/webm",
        "video/mp4",
        "video/quicktime",
        "application/octet-stream",
    ]


def noisy(height: int, width: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("sides", [(900, 1600), (1400, 2000)])
def test_a_large_image_is_sent_as_a_jpeg_that_fits(sides: tuple[int, int]) -> None:
    rgb = noisy(*sides)
    png = encode_png(rgb)
    assert len(png) > LARGE_BYTES
    sent = fitting_image(png)
    assert len(sent) <= LARGE_BYTES
    assert sent in {encode_jpeg(rgb), encode_jpeg(rgb, quality=85)}
    assert fitting_image(png) == sent


def test_other_images_are_sent_as_they_came() -> None:
    for data in (encode_png(noisy(40, 60)), encode_jpeg(noisy(40, 60))):
        assert fitting_image(data) is data


@pytest.mark.parametrize("data", [b"", b"no image", encode_jpeg(noisy(40, 60))[:-9]])
def test_what_is_cut_off_is_found_before_it_is_sent(data: bytes) -> None:
    with pytest.raises(PixelError):
        fitting_image(data)
