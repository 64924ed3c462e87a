"""Videos are read as players show them, each made with FFmpeg's own libraries."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from numpy.typing import NDArray

from service.errors import BadVideo, DamagedVideo, UnknownCodec
from service.media.video import turn_upright
from service.media.video_reader import open_video
from tests.support.movies import add_track, movie, noise, write

ONE = 1 << 16
IDENTITY = (ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30)
RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 230, 20), (20, 20, 230), (230, 230, 230)
HEIGHT, WIDTH = 48, 64


def quarters() -> NDArray[np.uint8]:
    """A picture whose quarters are red and green, below them blue and white."""
    colors = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
    return colors.repeat(HEIGHT // 2, axis=0).repeat(WIDTH // 2, axis=1)


def plain(value: int, *, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


def turned(data: bytes, matrix: Sequence[int]) -> bytes:
    """The same video with another display matrix."""
    before, after = (
        b"".join(value.to_bytes(4, "big", signed=True) for value in values)
        for values in (IDENTITY, matrix)
    )
    track = data.index(b"tkhd")
    return data[:track] + data[track:].replace(before, after, 1)


def read(data: bytes) -> list[tuple[float, NDArray[np.uint8]]]:
    with open_video(io.BytesIO(data)) as reader:
        return [(picture.time_s, turn_upright(picture)) for picture in reader.pictures()]


def corners(picture: NDArray[np.uint8]) -> list[tuple[int, int, int]]:
    """The colors of the quarters, from left to right and then below."""
    height, width = picture.shape[:2]
    found = []
    for row in (height // 4, 3 * height // 4):
        for column in (width // 4, 3 * width // 4):
            color = picture[row, column].astype(int)
            known = (RED, GREEN, BLUE, WHITE)
            found.append(min(known, key=lambda each: int(np.abs(color - each).sum())))
    return found


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((ONE, 0, 0, 0, ONE), [RED, GREEN, BLUE, WHITE]),
        ((-ONE, 0, 0, 0, ONE), [GREEN, RED, WHITE, BLUE]),
        ((ONE, 0, 0, 0, -ONE), [BLUE, WHITE, RED, GREEN]),
        ((-ONE, 0, 0, 0, -ONE), [WHITE, BLUE, GREEN, RED]),
        ((0, ONE, 0, -ONE, 0), [BLUE, RED, WHITE, GREEN]),  # a quarter turn clockwise
        ((0, -ONE, 0, ONE, 0), [GREEN, WHITE, RED, BLUE]),
        ((0, ONE, 0, ONE, 0), [RED, BLUE, GREEN, WHITE]),
        ((0, -ONE, 0, -ONE, 0), [WHITE, GREEN, BLUE, RED]),
    ],
)
def test_a_picture_is_turned_and_flipped_as_the_matrix_says(
    matrix: tuple[int, ...], expected: list[tuple[int, int, int]]
) -> None:
    data = turned(movie([quarters()]), (*matrix, 0, 0, 0, 1 << 30))
    ((_, picture),) = read(data)
    assert corners(picture) == expected
    assert picture.shape[:2] == ((HEIGHT, WIDTH) if matrix[0] else (WIDTH, HEIGHT))


def test_a_cover_is_not_the_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        cover = add_track(container, "mjpeg", height=96, width=128)
        cover.disposition = Disposition.attached_pic
        film = add_track(container, "libx264", height=HEIGHT, width=WIDTH)
        write(container, cover, [plain(200, height=96, width=128)])
        write(container, film, [plain(value) for value in (20, 90, 160)])
    found = read(file.getvalue())
    assert [picture.shape for _, picture in found] == [(HEIGHT, WIDTH, 3)] * 3


def test_a_small_preview_is_not_the_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        preview = add_track(container, "libx264", height=16, width=16)
        film = add_track(container, "libx264", height=HEIGHT, width=WIDTH)
        preview.disposition = film.disposition = Disposition.default
        write(container, preview, [plain(200, height=16, width=16)] * 3)
        write(container, film, [plain(value) for value in (20, 90, 160)])
    assert {picture.shape for _, picture in read(file.getvalue())} == {(HEIGHT, WIDTH, 3)}


def test_a_file_with_only_a_cover_holds_no_video() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        cover = add_track(container, "mjpeg", height=HEIGHT, width=WIDTH)
        cover.disposition = Disposition.attached_pic
        write(container, cover, [plain(200)])
    with pytest.raises(BadVideo, match="only a cover picture"):
        read(file.getvalue())


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_the_times_are_those_of_the_file(kind: str) -> None:
    times = [0, 100, 200, 217, 234, 2234, 2251]
    codec = "libvpx" if kind == "webm" else "libx264"
    data = movie([plain(20 * n) for n in range(7)], times, kind=kind, codec=codec)
    assert [round(time_s * 1000) for time_s, _ in read(data)] == times


def test_the_times_begin_with_the_first_picture() -> None:
    data = movie([plain(9)] * 2, [500, 540], kind="webm", codec="libvpx")
    assert [round(time_s * 1000) for time_s, _ in read(data)] == [0, 40]


@pytest.mark.parametrize(
    ("aspect", "shape"),
    [(Fraction(4, 3), (48, 85, 3)), (Fraction(1, 2), (96, 64, 3)), (Fraction(1), (48, 64, 3))],
)
def test_pixels_become_squares(aspect: Fraction, shape: tuple[int, ...]) -> None:
    ((_, picture),) = read(movie([quarters()], aspect=aspect))
    assert picture.shape == shape
    assert corners(picture) == [RED, GREEN, BLUE, WHITE]


def read_until_damage(data: bytes) -> tuple[list[NDArray[np.uint8]], str]:
    found: list[NDArray[np.uint8]] = []
    with open_video(io.BytesIO(data)) as reader, pytest.raises(DamagedVideo) as caught:
        found.extend(turn_upright(picture) for picture in reader.pictures())
    return found, str(caught.value)


@pytest.mark.parametrize("kept", [0.4, 0.7, 0.95])
@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "libx264"), ("mov", "mjpeg"), ("webm", "libvpx")]
)
def test_a_file_that_is_cut_off_gives_its_beginning(kind: str, codec: str, kept: float) -> None:
    pictures = noise(20, height=HEIGHT, width=WIDTH)
    whole = movie(pictures, kind=kind, codec=codec, index_first=kind != "webm")
    found, said = read_until_damage(whole[: int(kept * len(whole))])
    assert 20 * kept - 6 < len(found) < 20
    assert said == f"picture {len(found)} of the video cannot be decoded: the file is cut off"
    for picture, (_, expected) in zip(found, read(whole), strict=False):
        assert (picture == expected).all()


def test_damaged_data_end_the_video_where_they_are() -> None:
    whole = movie(noise(12, height=HEIGHT, width=WIDTH), codec="mjpeg", kind="mov")
    places = [n for n in range(len(whole)) if whole.startswith(b"\xff\xd8\xff", n)]
    broken = whole[: places[5]] + bytes(places[6] - places[5]) + whole[places[6] :]
    found, said = read_until_damage(broken)
    assert len(found) == 5
    assert said == "picture 5 of the video cannot be decoded: its data are damaged"


def test_a_codec_that_is_not_asked_for_is_not_decoded() -> None:
    data = movie([plain(9)], codec="ffv1", kind="matroska")
    with (
        pytest.raises(UnknownCodec, match="is ffv1; read are: h264, vp8"),
        open_video(io.BytesIO(data), codecs=("vp8", "h264")),
    ):
        pass


def test_a_file_of_something_else_is_no_video() -> None:
    with pytest.raises(BadVideo, match="cannot be read"):
        read(b"this is no video at all" * 100)


@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_a_title_of_another_encoding_is_no_obstacle(kind: str) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        container.metadata["title"] = "a title"
        codec = "libvpx" if kind == "webm" else "mpeg4"
        stream = add_track(container, codec, height=HEIGHT, width=WIDTH)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux(stream.encode())
    latin = file.getvalue().replace(b"a title", b"M\xf6wen \xff")
    assert b"\xf6" in latin
    with open_video(io.BytesIO(latin)) as video:
        assert len(list(video.pictures())) == 1
