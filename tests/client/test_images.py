"""What the client takes for an image or a mask, and what it refuses."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tamvt_client.images import ImageInput, encode_image, encode_mask, media_type
from tamvt_client.masks import read_label_map
from tests.support import scene

PICTURE = scene.picture(0)
LABELS = scene.labels(0)


def test_every_kind_of_file_gives_its_bytes(tmp_path: Path) -> None:
    data = scene.png(0)
    path = tmp_path / "frame.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        given: list[ImageInput] = [
            data,
            bytearray(data),
            memoryview(data),
            path,
            str(path),
            io.BytesIO(data),
            file,
        ]
        assert all(encode_image(item) == data for item in given)
    assert encode_mask(str(path)) == data


def test_a_picture_becomes_a_jpeg_that_looks_the_same() -> None:
    for picture in (PICTURE, Image.fromarray(PICTURE)):
        data = encode_image(picture)
        assert media_type(data) == "image/jpeg"
        seen = np.asarray(Image.open(io.BytesIO(data)), dtype=int)
        assert np.abs(seen - PICTURE).mean() < 4
        assert data == encode_image(picture.copy())


def test_a_pillow_image_is_sent_upright() -> None:
    turned = Image.fromarray(PICTURE)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    file = io.BytesIO()
    turned.save(file, "PNG", exif=exif)
    sent = Image.open(io.BytesIO(encode_image(Image.open(file))))
    assert sent.size == turned.size[::-1]


@pytest.mark.parametrize("mask", [LABELS, LABELS[..., None], LABELS == 1, Image.fromarray(LABELS)])
def test_a_mask_keeps_its_ids(mask: Any) -> None:
    assert (read_label_map(encode_mask(mask)) == LABELS).all()


@pytest.mark.parametrize(
    ("image", "error", "word"),
    [
        (PICTURE.astype(np.float32) / 255, TypeError, "float32"),
        (PICTURE.astype(np.uint16), TypeError, "uint16"),
        (LABELS, ValueError, "RGB"),
        (np.zeros((4, 5, 4), np.uint8), ValueError, "RGB"),
        (Image.fromarray(np.zeros((4, 5), np.float32)), TypeError, "8 bits"),
        (io.StringIO("text"), TypeError, "binary mode"),
        (17, TypeError, "an image is bytes, a path"),
    ],
)
def test_a_picture_of_another_kind_is_refused(
    image: Any, error: type[Exception], word: str
) -> None:
    with pytest.raises(error, match=word):
        encode_image(image)


@pytest.mark.parametrize(
    ("mask", "error", "word"),
    [
        (LABELS.astype(np.int64), TypeError, "int64"),
        (PICTURE, ValueError, r"\(H, W\)"),
        (Image.fromarray(LABELS.astype(np.float32)), TypeError, "8 bits"),
        (None, TypeError, "a mask is bytes, a path"),
    ],
)
def test_a_mask_of_another_kind_is_refused(mask: Any, error: type[Exception], word: str) -> None:
    with pytest.raises(error, match=word):
        encode_mask(mask)
