"""From bytes to pixels: what is decoded, what is refused, what the model sees."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.core.image_headers import read_header
from model.core.pixels import (
    ImageLimits,
    PixelError,
    TooLarge,
    Truncated,
    Undecodable,
    keep_frame,
    model_frame,
    model_size,
    read_image,
    resize_frame,
    resize_masks,
)
from tests.core.pictures import KINDS, encoded, gradient

LIMITS = ImageLimits()
ROTATED = 6  # EXIF orientation: the camera lay on its side
ORIENTATION = 0x0112


def average_error(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_rgb(kind: str) -> None:
    rgb = read_image(encoded(Image.fromarray(gradient()), kind, quality=95), LIMITS)
    assert average_error(rgb, gradient()) < 3
    assert rgb.flags.c_contiguous


@pytest.mark.parametrize("kind", KINDS)
def test_exif_orientation_is_applied(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    rgb = read_image(encoded(Image.fromarray(gradient()), kind, exif=exif, quality=95), LIMITS)
    assert average_error(rgb, np.rot90(gradient(), k=-1)) < 3


def test_the_limits_hold_for_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = ROTATED
    lying = encoded(Image.fromarray(gradient(height=40, width=60)), "JPEG", exif=exif)
    assert read_image(lying, ImageLimits(max_width=40, max_height=60)).shape == (60, 40, 3)
    with pytest.raises(TooLarge, match="40x60"):
        read_image(lying, ImageLimits(max_width=60, max_height=40))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_dropped_not_blended(kind: str) -> None:
    image = Image.fromarray(gradient())
    image.putalpha(7)
    rgb = read_image(encoded(image, kind, lossless=True, exact=True), LIMITS)
    assert (rgb == gradient()).all()


def test_a_gray_picture_has_three_equal_channels() -> None:
    gray = gradient()[..., 0]
    rgb = read_image(encoded(Image.fromarray(gray), "PNG"), LIMITS)
    assert (rgb == gray[..., None]).all()


def test_a_palette_picture_shows_its_colors() -> None:
    image = Image.fromarray(gradient()).quantize(64)
    rgb = read_image(encoded(image, "PNG", transparency=0), LIMITS)
    assert (rgb == np.asarray(image.convert("RGB"))).all()


def test_a_picture_of_16_bits_keeps_the_upper_8() -> None:
    deep = gradient()[..., ::-1].astype(np.uint16) * 257
    rgb = read_image(cv2.imencode(".png", deep)[1].tobytes(), LIMITS)
    assert (rgb == gradient()).all()


def test_a_cmyk_jpeg_becomes_rgb() -> None:
    data = encoded(Image.fromarray(gradient()).convert("CMYK"), "JPEG", quality=95)
    assert average_error(read_image(data, LIMITS), gradient()) < 4


def test_a_progressive_jpeg_is_whole() -> None:
    data = encoded(Image.fromarray(gradient(200, 300)), "JPEG", progressive=True, quality=95)
    assert average_error(read_image(data, LIMITS), gradient(200, 300)) < 3


def test_what_a_phone_adds_after_the_picture_is_ignored(jpeg: bytes) -> None:
    assert (read_image(jpeg + jpeg[:900], LIMITS) == read_image(jpeg, LIMITS)).all()


def test_a_thumbnail_within_a_jpeg_is_not_its_end() -> None:
    image = Image.fromarray(gradient(200, 300))
    thumbnail = encoded(Image.fromarray(gradient(16, 24)), "JPEG")
    data = encoded(image, "JPEG", comment=thumbnail, quality=95)
    assert thumbnail in data
    assert read_image(data, LIMITS).shape == (200, 300, 3)
    with pytest.raises(Truncated):
        read_image(data[: data.index(thumbnail) + len(thumbnail) + 100], LIMITS)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_image_is_refused(kind: str, share: float, jpeg: bytes) -> None:
    whole = encoded(Image.open(io.BytesIO(jpeg)), kind)
    with pytest.raises(Truncated):
        read_image(whole[: int(share * len(whole))], LIMITS)


@given(st.sampled_from(KINDS), st.data())
def test_damage_never_does_more_than_a_pixel_error(kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(Image.fromarray(gradient(12, 16)), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    limits = ImageLimits(max_width=64, max_height=64)
    try:
        rgb = read_image(bytes(whole), limits)
    except PixelError:
        return
    assert max(rgb.shape[:2]) <= 64


@pytest.mark.parametrize(
    ("frame", "short_side", "expected"),
    [
        ((480, 854), 256, (256, 448)),
        ((854, 480), 256, (448, 256)),
        ((480, 854), 480, (480, 864)),
        ((360, 640), 256, (256, 448)),
        ((1080, 1920), 480, (480, 864)),
        ((100, 100), 256, (256, 256)),
        ((100, 1000), 256, (256, 640)),
        ((1, 4000), 256, (256, 640)),
        ((240, 320), 240, (256, 320)),
    ],
)
def test_model_size(frame: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert model_size(*frame, short_side=short_side) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 900))
def test_model_sizes_are_multiples_of_32_of_bounded_aspect(h: int, w: int, short: int) -> None:
    height, width = model_size(h, w, short_side=short)
    assert height % 32 == width % 32 == 0
    assert 32 <= min(height, width) <= short + 31
    assert max(height, width) <= 2.5 * short + 31
    assert (height <= width) if h <= w else (height >= width)


def test_a_frame_without_pixels_has_no_model_size() -> None:
    with pytest.raises(ValueError, match="no model size"):
        model_size(0, 5, short_side=256)


def test_shrinking_averages_and_growing_interpolates() -> None:
    checks = np.indices((8, 8)).sum(axis=0) % 2 * 255
    rgb = np.repeat(checks[..., None], 3, axis=2).astype(np.uint8)
    assert set(np.unique(resize_frame(rgb, (4, 4)))) <= {127, 128}
    assert resize_frame(rgb, (16, 16)).shape == (16, 16, 3)
    assert 0 < resize_frame(rgb, (16, 16))[1, 1, 0] < 255


def test_masks_are_resized_one_by_one_as_frames_are(jpeg: bytes) -> None:
    rgb = read_image(jpeg, LIMITS)
    masks = np.ascontiguousarray(np.concatenate([rgb, rgb[..., :2]], axis=2).transpose(2, 0, 1))
    resized = resize_masks(masks, (256, 448))
    assert resized.shape == (5, 256, 448)
    assert (resized[:3] == resize_frame(rgb, (256, 448)).transpose(2, 0, 1)).all()
    assert resize_masks(masks[:0], (32, 64)).shape == (0, 32, 64)


def test_a_small_jpeg_is_kept_as_it_came(jpeg: bytes) -> None:
    assert keep_frame(jpeg, read_image(jpeg, LIMITS), (256, 448)) is jpeg


def test_a_kept_jpeg_shows_the_model_the_frame_itself(jpeg: bytes) -> None:
    rgb = read_image(jpeg, LIMITS)
    seen = model_frame(keep_frame(jpeg, rgb, (256, 448)), (256, 448))
    assert (seen == resize_frame(rgb, (256, 448))).all()


@pytest.mark.parametrize("case", ["none", "png", "large", "many bytes"])
def test_any_other_frame_is_encoded_at_the_models_size(case: str, jpeg: bytes) -> None:
    rgb, size = read_image(jpeg, LIMITS), (256, 448)
    data: bytes | None = jpeg
    if case == "none":
        data = None
    elif case == "png":
        data = encoded(Image.fromarray(rgb), "PNG")
    elif case == "large":
        size = (160, 288)  # 360 > 2 * 160
    else:
        data = jpeg + bytes(100_001 - len(jpeg))
    kept = keep_frame(data, rgb, size)
    header = read_header(kept, LIMITS)
    assert (header.kind, header.height, header.width) == ("jpeg", *size)
    assert len(kept) < 100_000
    assert average_error(model_frame(kept, size), resize_frame(rgb, size)) < 6


def test_what_was_never_kept_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        model_frame(b"", (32, 32))
    with pytest.raises(Undecodable):
        model_frame(b"nothing", (32, 32))
