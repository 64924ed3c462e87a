"""What is refused before anything is decoded."""

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from model.core.image_headers import (
    MAX_SCANS,
    MAX_SEGMENTS,
    ImageLimits,
    PixelError,
    TooLarge,
    Undecodable,
    bare_png,
    check_png_pixels,
    read_header,
)
from model.core.pixels import read_image
from tests.core.pictures import KINDS, encoded, gradient, png_chunk, png_of_size

LIMITS = ImageLimits()


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"GIF89a" + bytes(50), b"\xff\xd8\xff\xd9", bytes(99)]
)
def test_what_is_no_image_is_undecodable(data: bytes) -> None:
    with pytest.raises(Undecodable):
        read_header(data, LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_no_cut_of_a_small_image_passes_or_crashes(kind: str) -> None:
    whole = encoded(Image.fromarray(gradient(9, 7)), kind)
    for end in range(len(whole) - 1):
        with pytest.raises(PixelError):
            read_header(whole[:end], LIMITS)


def test_a_damaged_png_is_undecodable() -> None:
    whole = bytearray(encoded(Image.fromarray(gradient()), "PNG"))
    whole[len(whole) // 2] ^= 1
    with pytest.raises(Undecodable, match="checksum"):
        read_header(bytes(whole), LIMITS)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused(kind: str) -> None:
    image, other = Image.fromarray(gradient()), Image.fromarray(gradient()[::-1])
    data = encoded(image, kind, save_all=True, append_images=[other])
    with pytest.raises(Undecodable, match="animated"):
        read_header(data, LIMITS)


def test_too_many_bytes_are_refused(jpeg: bytes) -> None:
    with pytest.raises(TooLarge, match="bytes"):
        read_header(jpeg, ImageLimits(max_bytes=len(jpeg) - 1))


def test_an_image_bomb_is_refused_by_its_header() -> None:
    with pytest.raises(TooLarge, match="60000x50000"):
        read_header(png_of_size(60_000, 50_000), LIMITS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_measured_by_its_header(kind: str) -> None:
    data = encoded(Image.fromarray(gradient(30, 50)), kind)
    header = read_header(data, LIMITS)
    assert (header.kind, header.height, header.width) == (kind.lower(), 30, 50)
    with pytest.raises(TooLarge, match="50x30"):
        read_header(data, ImageLimits(max_width=49, max_height=49))


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 80}, {"icc_profile": b"x" * 9}]
)
def test_every_kind_of_webp_is_measured(options: dict[str, object]) -> None:
    header = read_header(encoded(Image.fromarray(gradient(31, 52)), "WEBP", **options), LIMITS)
    assert (header.height, header.width) == (31, 52)


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_an_image_without_pixels_is_undecodable(size: tuple[int, int]) -> None:
    with pytest.raises(Undecodable, match="no pixels"):
        read_header(png_of_size(*size), LIMITS)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8\xff\xfe\x00\x02" + b"\xff\xfe\x00\x02" * MAX_SEGMENTS,
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", bytes(13))
        + png_chunk(b"tEXt", b"") * MAX_SEGMENTS,
        b"\xff\xd8\xff" + b"\xff" * 7_000_000,
    ],
)
def test_a_walk_through_a_hostile_image_ends(data: bytes) -> None:
    with pytest.raises(PixelError):
        read_header(data, LIMITS)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    whole = encoded(Image.fromarray(gradient()), "JPEG")
    scan = whole.rindex(b"\xff\xda")
    bomb = whole[:-2] + whole[scan : scan + 14] * MAX_SCANS + whole[-2:]
    with pytest.raises(Undecodable, match=f"{MAX_SCANS + 1} scans"):
        read_header(bomb, LIMITS)


def chunks_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


HEAD, DATA, END = (
    (b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 0, 0, 0, 0)),
    (b"IDAT", b""),
    (b"IEND", b""),
)
PALETTE = (b"PLTE", bytes(3))


@pytest.mark.parametrize(
    "chunks",
    [
        (HEAD, (b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 0, 0, 0, 0)), DATA, END),
        (HEAD, DATA, PALETTE, END),
        (HEAD, PALETTE, PALETTE, DATA, END),
        (HEAD, (b"ABCD", b""), DATA, END),
        (HEAD, DATA, END, (b"tEXt", b"late")),
        (HEAD, DATA, END, DATA, END),
    ],
)
def test_a_png_that_decoders_read_differently_is_refused(
    chunks: tuple[tuple[bytes, bytes], ...],
) -> None:
    with pytest.raises(Undecodable, match=r"out of place|goes on after its end"):
        read_header(chunks_of(*chunks), LIMITS)


def test_stray_bytes_after_a_png_are_nothing() -> None:
    assert read_header(chunks_of(HEAD, (b"teXt", b""), DATA, END) + b"\n\0\0\0", LIMITS).width == 2


def test_a_bare_png_has_its_picture_alone() -> None:
    long = chunks_of(HEAD, (b"iCCP", b"x\0"), PALETTE, (b"tRNS", b"\0"), DATA, (b"tEXt", b""), END)
    bare = chunks_of(HEAD, PALETTE, (b"tRNS", b"\0"), DATA, END)
    assert bare_png(long) == bare


def test_a_jpeg_with_stray_bytes_before_its_picture_is_refused(jpeg: bytes) -> None:
    with pytest.raises(Undecodable, match="stray bytes"):
        read_header(jpeg[:20] + b"\0\1" + jpeg[20:], LIMITS)
    assert read_header(jpeg[:20] + b"\xff\xff" + jpeg[20:], LIMITS).kind == "jpeg"


def rewrite_pixels(png: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return the PNG whose only IDAT holds what `change` makes of it, with a right checksum."""
    start = png.index(b"IDAT")
    (length,) = struct.unpack_from(">I", png, start - 4)
    pixels = change(png[start + 4 : start + 4 + length])
    chunk = b"IDAT" + pixels
    head = struct.pack(">I", len(pixels)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[: start - 4] + head + png[start + 8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda pixels: pixels[:-1] + bytes([pixels[-1] ^ 1]),
        lambda pixels: pixels[: len(pixels) // 2],
        lambda pixels: zlib.compress(zlib.decompress(pixels) + bytes(10_000_000)),
    ],
    ids=["another checksum", "cut short", "more than it says"],
)
def test_a_png_whose_pixels_are_no_whole_stream_is_refused(
    change: Callable[[bytes], bytes],
) -> None:
    png = encoded(Image.fromarray(gradient(48, 64)), "PNG")
    check_png_pixels(png, read_header(png, LIMITS))
    broken = rewrite_pixels(png, change)
    with pytest.raises(Undecodable, match=r"pixels|holds"):
        check_png_pixels(broken, read_header(broken, LIMITS))
    with pytest.raises(Undecodable):
        read_image(broken, LIMITS)
