"""Live pictures: what is recorded, what is not reached, and that nothing is waited for forever."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from service.errors import BadOption, BadVideo, DamagedVideo
from service.media.live_video import ANY, PLAIN, check_address, read_camera, record
from service.media.video_reader import VideoReader
from tests.support import scene
from tests.support.live_stream import FRAMES, LiveServer, live_server


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as serving:
        yield serving


PRIVATE = """127.0.0.1 10.0.0.7 192.168.1.4 169.254.169.254 0.0.0.0 224.0.0.1 100.64.0.1
    [::1] [fe80::1] [::ffff:10.0.0.7]"""


@pytest.mark.parametrize("host", PRIVATE.split())
def test_no_private_address_is_reached_unless_it_is_said(host: str) -> None:
    with pytest.raises(BadOption, match=r"is at a private address, .*--allow-private"):
        check_address(f"http://{host}/stream", allow_private=False)
    assert check_address(f"http://{host}/stream", allow_private=True).startswith("http://")


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "srt", "udp"])
def test_what_goes_where_it_is_sent_needs_the_same_word(scheme: str) -> None:
    with pytest.raises(BadOption, match="--allow-private"):
        check_address(f"{scheme}://8.8.8.8/stream", allow_private=False)


@pytest.mark.parametrize(
    "address",
    [
        *("file:///etc/passwd", "concat:a|b", "http://", "http://8.8.8.8\\@127.0.0.1/"),
        *("front door", "http://[::1", "http://8.8.8.8:99999/"),
    ],
)
def test_what_is_no_address_of_a_stream_is_refused(address: str) -> None:
    with pytest.raises(BadOption, match="no address of a stream"):
        check_address(address, allow_private=True)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(BadOption) as refused:
        check_address("rtsp://ann:secret@10.0.0.7/stream", allow_private=False)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("path", ["away", "list.m3u8"])
def test_an_address_that_leads_elsewhere_is_not_followed(server: LiveServer, path: str) -> None:
    server.asked.clear()
    with pytest.raises(av.FFmpegError):
        av.open(f"{server.address}/{path}", options=dict(PLAIN), timeout=(30, 30))
    assert server.asked == [f"/{path}"]
    with av.open(f"{server.address}/{path}", options=dict(ANY), timeout=(30, 30)) as container:
        assert container.streams.video[0].width == 128


def test_a_playlist_names_no_file(server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "a.ts").write_bytes(scene.video(range(5), kind="mpegts"))
    server.listed = f"file://{tmp_path}/a.ts"
    try:
        with pytest.raises(av.FFmpegError):
            av.open(f"{server.address}/list.m3u8", options=dict(ANY), timeout=(30, 30))
    finally:
        server.listed = ""


def test_every_picture_is_recorded_and_the_folder_is_a_video(
    server: LiveServer, tmp_path: Path
) -> None:
    address = f"{server.address}/film.mp4"
    with record(address, tmp_path / "frames", seconds=60, allow_private=True) as recording:
        names = [frame.name for frame in recording.source().frames()]
    assert names == [f"{number:05d}" for number in range(FRAMES)]
    source = recording.finished()
    assert [image.stem for image in source.images] == names
    assert source.fps == pytest.approx(25, abs=0.5)


def test_an_endless_stream_is_recorded_for_as_long_as_was_said(
    server: LiveServer, tmp_path: Path
) -> None:
    address = f"{server.address}/endless"
    with record(address, tmp_path, seconds=0.3, allow_private=True) as recording:
        numbers = [frame.number for frame in recording.source().frames()]
    assert numbers == list(range(recording.count))
    assert recording.count >= 2


def test_a_stream_that_breaks_off_is_said_after_what_came(
    server: LiveServer, tmp_path: Path
) -> None:
    address = f"{server.address}/broken"
    with (
        record(address, tmp_path, seconds=60, allow_private=True) as recording,
        pytest.raises(DamagedVideo, match="the stream broke off: its connection was closed"),
    ):
        list(recording.source().frames())
    assert recording.count == FRAMES


def test_packets_without_a_picture_are_not_waited_for_for_ever() -> None:
    sent = io.BytesIO(scene.video(range(5), kind="mpegts"))
    with av.open(sent, "r") as container:
        reader = VideoReader(container, container.streams.video[0], cut_off=False, live_wait_s=-1)
        with pytest.raises(DamagedVideo, match="no picture came"):
            list(reader.pictures())


def test_a_camera_that_is_unplugged_is_said_after_what_came(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(scene.video(range(4)))
    pictures = read_camera(cv2.VideoCapture(str(tmp_path / "a.mp4")))  # a file in its place
    first = [next(pictures) for _ in range(4)]
    assert [time_s for time_s, _ in first] == sorted(time_s for time_s, _ in first)
    assert np.abs(first[0][1].astype(int) - scene.picture(0)).mean() < 5  # red is not blue
    with pytest.raises(BadVideo, match="gives no more pictures"):
        next(pictures)


def test_where_nothing_comes_it_is_said_in_time(server: LiveServer, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{unused.getsockname()[1]}/"
    said = {
        closed: "connection refused",
        f"{server.address}/nowhere": "404",
        f"{server.address}/silent": "nothing came for 0.3 s",
        "98765": "there is no camera 98765",
    }
    for address, words in said.items():
        recording = record(address, tmp_path, seconds=1, allow_private=True, wait_s=0.3)
        with pytest.raises(BadVideo, match=words), recording:
            pass
    assert list(tmp_path.iterdir()) == []
