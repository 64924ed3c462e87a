"""Videos in and out, with real files and FFmpeg's libraries."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.errors import BadVideo
from service.media.images import decode_image, encode_jpeg, encode_png
from service.media.video import VideoWriter, open_source


def plain(color: tuple[int, int, int], *, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.full((height, width, 3), color, np.uint8)


def write_video(path: Path, pictures: list[NDArray[np.uint8]], *, fps: float = 10) -> None:
    with VideoWriter(path) as video:
        for number, picture in enumerate(pictures):
            video.write(picture, time_s=number / fps)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]
    write_video(tmp_path / "v.mp4", [plain(color) for color in colors])
    frames = list(open_source(tmp_path / "v.mp4").frames())
    means = [decode_image(frame.image).mean(axis=(0, 1)) for frame in frames]
    assert np.abs(np.array(means) - np.array(colors)).max() < 8


def test_a_file_tells_its_length_and_times(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [plain((9, 9, 9))] * 7, fps=12.5)
    source = open_source(tmp_path / "v.mp4")
    assert source.count == 7
    assert [round(frame.time_s, 6) for frame in source.frames(first=4)] == [0.32, 0.4, 0.48]


def test_frames_of_a_file_have_five_digits_and_the_same_bytes_again(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [plain((value, 9, 9)) for value in range(0, 250, 25)])
    source = open_source(tmp_path / "v.mp4")
    frames = list(source.frames())
    assert [frame.name for frame in frames[:2]] == ["00000", "00001"]
    assert list(source.frames(first=6)) == frames[6:]


def test_an_odd_row_and_column_are_left_out(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [plain((50, 60, 70), height=49, width=65)])
    (frame,) = open_source(tmp_path / "v.mp4").frames()
    assert decode_image(frame.image).shape == (48, 64, 3)


def test_the_video_plays_in_browsers(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [plain((50, 60, 70))] * 2)
    with av.open(str(tmp_path / "v.mp4"), "r") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_an_interrupted_video_is_removed(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with VideoWriter(tmp_path / "v.mp4") as video:
            video.write(plain((1, 2, 3)), time_s=0)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        write_and_fail()
    assert not (tmp_path / "v.mp4").exists()


def test_images_come_in_natural_order_and_as_they_are(tmp_path: Path) -> None:
    contents = {
        "frame10.png": encode_png(plain((1, 2, 3))),
        "frame2.jpg": encode_jpeg(plain((4, 5, 6))),
        "frame1.JPG": encode_jpeg(plain((7, 8, 9))),
        "notes.txt": b"no image",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    frames = list(open_source(tmp_path).frames())
    assert [frame.name for frame in frames] == ["frame1", "frame2", "frame10"]
    assert [frame.image for frame in frames] == [
        contents["frame1.JPG"],
        contents["frame2.jpg"],
        contents["frame10.png"],
    ]


def test_a_folder_can_be_read_from_any_frame(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.jpg").write_bytes(encode_jpeg(plain((number, 0, 0))))
    assert [frame.number for frame in open_source(tmp_path).frames(first=2)] == [2, 3]


def test_images_of_any_kind_are_frames(tmp_path: Path) -> None:
    for number, suffix in enumerate(("jpg", "bmp", "tif")):
        rgb = cv2.cvtColor(plain((90, number, 0)), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(tmp_path / f"{number}.{suffix}"), rgb)
    source = open_source(tmp_path)
    assert [frame.name for frame in source.frames()] == ["0", "1", "2"]
    assert [decode_image(frame.image)[0, 0, 1] for frame in source.frames(first=1)] == [1, 2]


def test_what_is_no_frame_is_told(tmp_path: Path) -> None:
    for name in ("0.png", "mask.png", "notes.txt"):
        (tmp_path / name).write_bytes(encode_png(plain((1, 2, 3))))
    source = open_source(tmp_path, mask=tmp_path / "mask.png")
    assert source.count == 1
    assert source.left_out == "2 other files ('mask.png', 'notes.txt')"


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for suffix in ("jpg", "png"):
        (tmp_path / f"a.{suffix}").write_bytes(b"x")
    with pytest.raises(BadVideo, match="named 'a'"):
        open_source(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVideo, match="holds no image"):
        open_source(tmp_path)


def test_a_missing_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadVideo, match="there is no video or folder"):
        open_source(tmp_path / "nothing.mp4")


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"this is no video at all" * 100)
    with pytest.raises(BadVideo, match="cannot be read"):
        open_source(tmp_path / "v.mp4")


@pytest.mark.parametrize("name", ["12:30:05.mp4", "take #2.mp4", "what?.mp4", "100%d.mp4"])
def test_a_name_that_looks_like_an_address_is_a_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run:1"
    folder.mkdir()
    write_video(folder / name, [plain((9, 9, 9))] * 3)
    assert len(list(open_source(folder / name).frames())) == 3


def test_a_truncated_video_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", [plain((1, 2, 3))] * 5)
    data = (tmp_path / "v.mp4").read_bytes()
    (tmp_path / "v.mp4").write_bytes(data[: len(data) // 3])
    with pytest.raises(BadVideo):
        open_source(tmp_path / "v.mp4")
