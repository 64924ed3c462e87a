"""Label maps as PNG images: ours, and what users send."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from PIL import Image

from model.core.masks import MaskError, settle_ignored
from model.core.palette import davis_palette, read_label_map, write_label_map
from model.core.pixels import ImageLimits, TooLarge, Truncated, Undecodable
from tests.core.pictures import png_chunk

LIMITS = ImageLimits()
LABELS = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12))


def example() -> NDArray[np.uint8]:
    labels = np.zeros((6, 8), dtype=np.uint8)
    labels[1:3, 2:5], labels[4, 6] = 1, 21
    return labels


def png(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


def gray_png_of_depth(depth: int, rows: list[bytes], width: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + checksum

    header = struct.pack(">IIBBBBB", width, len(rows), depth, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@given(LABELS)
def test_a_written_label_map_is_read_again(labels: NDArray[np.uint8]) -> None:
    assert (read_label_map(write_label_map(labels), LIMITS) == settle_ignored(labels)).all()


def test_the_colors_are_those_of_davis() -> None:
    palette = davis_palette()
    assert palette[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert palette[8:10].tolist() == [[64, 0, 0], [192, 0, 0]]
    assert palette[20:23].tolist() == [[0, 64, 128], [128, 64, 128], [22, 22, 22]]
    assert palette[255].tolist() == [255, 255, 255]


def test_other_programs_see_a_palette_image() -> None:
    image = Image.open(io.BytesIO(write_label_map(example())))
    assert image.mode == "P"
    assert image.convert("RGB").getpixel((3, 1)) == (128, 0, 0)


def test_a_palette_gives_its_indices_whatever_the_colors() -> None:
    image = Image.fromarray(example())
    image.putpalette([9] * 768)
    assert (read_label_map(png(image), LIMITS) == example()).all()
    assert (read_label_map(png(image, transparency=0), LIMITS) == example()).all()


def test_a_palette_of_few_bits_gives_its_indices() -> None:
    labels = np.minimum(example(), 3)
    image = Image.fromarray(labels)
    image.putpalette(davis_palette()[:4].tobytes())
    data = png(image, bits=2)
    assert data[24] == 2
    assert (read_label_map(data, LIMITS) == labels).all()


def test_a_gray_image_gives_its_values() -> None:
    assert (read_label_map(png(Image.fromarray(example())), LIMITS) == example()).all()


def test_a_0_255_mask_is_object_1() -> None:
    mask = (example() > 0).astype(np.uint8)
    assert (read_label_map(png(Image.fromarray(mask * np.uint8(255))), LIMITS) == mask).all()


def test_a_mask_of_one_bit_is_object_1() -> None:
    mask = example() > 0
    assert (read_label_map(png(Image.fromarray(mask)), LIMITS) == mask).all()


def test_a_gray_image_of_16_bits_gives_its_values() -> None:
    labels = example().astype(np.uint16)
    assert (read_label_map(png(Image.fromarray(labels)), LIMITS) == labels).all()
    with pytest.raises(MaskError, match="above 255"):
        read_label_map(png(Image.fromarray(labels * 1000)), LIMITS)


@pytest.mark.parametrize("depth", [2, 4])
def test_a_gray_image_of_few_bits_is_unclear(depth: int) -> None:
    with pytest.raises(MaskError, match="unclear"):
        read_label_map(gray_png_of_depth(depth, [b"\x11"], width=8 // depth), LIMITS)


def test_an_rgb_image_in_davis_colors_is_understood() -> None:
    rgb = davis_palette()[example()]
    assert (read_label_map(png(Image.fromarray(rgb)), LIMITS) == example()).all()


@pytest.mark.parametrize("channels", [3, 4])
def test_a_black_and_white_rgb_image_is_object_1(channels: int) -> None:
    mask = (example() > 0).astype(np.uint8)
    rgb = np.repeat(mask[..., None] * np.uint8(255), channels, axis=2)
    rgb[..., 3:] = 255
    assert (read_label_map(png(Image.fromarray(rgb)), LIMITS) == mask).all()


def test_an_rgb_image_of_gray_ids_is_understood() -> None:
    labels = np.minimum(example(), 3)
    rgb = np.repeat(labels[..., None], 3, axis=2)
    assert (read_label_map(png(Image.fromarray(rgb)), LIMITS) == labels).all()


def test_a_gray_of_the_palette_in_rgb_is_unclear() -> None:
    rgb = np.full((4, 4, 3), 128, dtype=np.uint8)  # object 128, or DAVIS's color of object 7
    with pytest.raises(MaskError, match="unclear"):
        read_label_map(png(Image.fromarray(rgb)), LIMITS)


def test_other_colors_are_refused() -> None:
    rgb = np.full((4, 4, 3), (255, 0, 0), dtype=np.uint8)
    with pytest.raises(MaskError, match="DAVIS palette"):
        read_label_map(png(Image.fromarray(rgb)), LIMITS)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused_and_opaqueness_is_not(mode: str) -> None:
    image = Image.fromarray((example() > 0).astype(np.uint8) * np.uint8(255)).convert(mode)
    assert read_label_map(png(image), LIMITS).sum() == 7
    image.putalpha(9)
    with pytest.raises(MaskError, match="transparent"):
        read_label_map(png(image), LIMITS)


def test_color_of_16_bits_is_refused() -> None:
    data = bytearray(gray_png_of_depth(16, [bytes(12)], width=2))
    data[25] = 2
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(MaskError, match="16 bits"):
        read_label_map(bytes(data), LIMITS)


def test_a_mask_as_jpeg_is_refused(jpeg: bytes) -> None:
    with pytest.raises(MaskError, match="a mask is a PNG"):
        read_label_map(jpeg, LIMITS)


def test_a_mask_passes_the_limits_of_images() -> None:
    data = png(Image.fromarray(example()))
    with pytest.raises(TooLarge):
        read_label_map(data, ImageLimits(max_width=7, max_height=7))
    with pytest.raises(TooLarge):
        read_label_map(data, ImageLimits(max_width=6, max_height=8))
    with pytest.raises(TooLarge):
        read_label_map(data, ImageLimits(max_bytes=20))
    with pytest.raises(TooLarge):
        read_label_map(gray_png_of_depth(8, [b""], width=100_000), LIMITS)


def test_a_truncated_mask_is_refused() -> None:
    with pytest.raises(Truncated):
        read_label_map(write_label_map(example())[:-10], LIMITS)


def test_a_mask_with_missing_rows_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        read_label_map(gray_png_of_depth(8, [b"\0\0", b""], width=2), LIMITS)


def test_what_is_no_image_is_undecodable() -> None:
    with pytest.raises(Undecodable):
        read_label_map(b"labels", LIMITS)


def test_what_pillow_stumbles_over_is_no_mask(caplog: pytest.LogCaptureFixture) -> None:
    """Pillow's plugins raise whatever happens in them: here, a row of no known filter."""
    broken = b"\x89PNG\r\n\x1a\n" + b"".join(
        png_chunk(kind, data)
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 3, 0, 0, 0)),
            (b"PLTE", b"\0" * 7),
            (b"IDAT", zlib.compress(4 * b"\x09\0\0\0\0")),
            (b"IEND", b""),
        )
    )
    with pytest.raises(Undecodable):
        read_label_map(broken, ImageLimits())
    assert len(caplog.records) == 1


def test_a_profile_without_its_method_is_left_out() -> None:
    whole = write_label_map(np.eye(4, dtype=np.uint8))
    end_of_header = 8 + 25
    profiled = whole[:end_of_header] + png_chunk(b"iCCP", b"name\0") + whole[end_of_header:]
    assert (read_label_map(profiled, ImageLimits()) == np.eye(4)).all()
