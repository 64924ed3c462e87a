"""Videos decoded in processes of their own: real ones, that are really killed."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from service.errors import BadVideo, CostlyVideo, DamagedVideo, DecoderUnavailable, UnknownCodec
from service.media.confinement import Confined
from service.media.video_decoder import VideoDecoder, VideoRequest
from service.server.workers import Workers
from tests.support import scene
from tests.support.movies import movie, noise
from tests.support.repeated_video import repeated_jpeg
from tests.support.running import PATIENCE_S

pytestmark = pytest.mark.anyio

SIZE = (scene.HEIGHT, scene.WIDTH)
LARGEST = (4096, 4096)
HUGE = 1024


@pytest.fixture
async def videos() -> AsyncIterator[VideoDecoder]:
    videos = VideoDecoder()
    yield videos
    await videos.close()


async def decode(
    videos: VideoDecoder, data: bytes, *, size: tuple[int, int] = SIZE
) -> list[tuple[int, NDArray[np.uint8]]]:
    with Workers(threads=1) as workers:
        request = VideoRequest(data, size=size, largest=LARGEST)
        return await videos.decode(request, lambda number, rgb: (number, rgb.copy()), workers)


def children() -> list[psutil.Process]:
    """Our process that forks, and those that it forked: they decode, or wait for a video."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):  # or a zombie, soon to be asked for
            if "service.media.video_process" in " ".join(child.cmdline()):
                found += [child, *child.children()]
    return found


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110  # another process's end is no event of ours
            await asyncio.sleep(0.01)


def idle() -> bool:
    """Whether only the process that forks is left, and one or two that wait for a video."""
    below = children()
    return 2 <= len(below) <= 3 and all(child.status() == "sleeping" for child in below)


def forked() -> list[psutil.Process]:
    return [child for child in children() if child.ppid() != os.getpid()]


def endless() -> bytes:
    """A small file of 100,000 large pictures, minutes of work."""
    jpeg = scene.encode(np.zeros((HUGE, HUGE, 3), np.uint8), ".jpg")
    return repeated_jpeg(jpeg, count=100_000, height=HUGE, width=HUGE)


@pytest.mark.parametrize(
    ("codec", "kind"),
    [
        ("libx264", "mp4"),
        ("libx265", "mp4"),
        ("libsvtav1", "mp4"),
        ("mpeg4", "mp4"),
        ("mjpeg", "mov"),
        ("prores_ks", "mov"),
        ("libvpx", "webm"),
        ("libvpx-vp9", "webm"),
    ],
)
async def test_every_codec_is_decoded_in_confinement(
    videos: VideoDecoder, codec: str, kind: str
) -> None:
    pictures = [scene.picture(number) for number in range(20)]
    found = await decode(videos, movie(pictures, codec=codec, kind=kind))
    assert [number for number, _ in found] == list(range(20))
    for expected, (_, seen) in zip(pictures, found, strict=True):
        assert np.abs(seen.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("width", [126, 130, 162])
async def test_rows_of_any_length_come_over(videos: VideoDecoder, width: int) -> None:
    picture = np.linspace(0, 250, 96 * width).reshape(96, width).astype(np.uint8)
    data = movie([np.stack([picture] * 3, axis=2)], codec="mjpeg", kind="mov")
    ((_, seen),) = await decode(videos, data, size=(96, width))
    assert np.abs(seen[..., 0].astype(int) - picture).max() < 12


@pytest.mark.parametrize(
    ("codec", "kind"),
    [
        ("ffv1", "matroska"),
        ("snow", "matroska"),
        ("rawvideo", "matroska"),
        ("png", "mov"),
        ("qtrle", "mov"),
        ("cinepak", "mov"),
    ],
)
async def test_other_codecs_are_refused(videos: VideoDecoder, codec: str, kind: str) -> None:
    with pytest.raises(UnknownCodec, match=f"is {codec}; read are: av1, h264, hevc"):
        await decode(videos, movie([scene.picture(0)], codec=codec, kind=kind))


async def test_a_cut_off_file_is_refused_with_the_picture_that_is_missing(
    videos: VideoDecoder,
) -> None:
    whole = movie(noise(20, height=96, width=128), codec="mjpeg", kind="mov", index_first=True)
    with pytest.raises(DamagedVideo, match=r"picture 1\d of the video cannot be decoded: the file"):
        await decode(videos, whole[: int(0.7 * len(whole))])


@pytest.mark.parametrize(("first", "refused"), [("", (False, False)), ("confine();", (True, True))])
def test_a_process_that_decodes_can_open_neither_files_nor_connections(
    first: str, refused: tuple[bool, bool]
) -> None:
    program = f"from service.media.confinement import *; {first} print(tuple(tried()))"
    tries = [sys.executable, "-c", program]
    said = subprocess.run(tries, capture_output=True, text=True, check=True)
    assert said.stdout == f"{refused}\n"


async def test_where_it_has_them_the_log_says_so(
    videos: VideoDecoder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await decode(videos, scene.video(range(2)))
        assert caplog.text == ""
        VideoDecoder()._tell(list(Confined(files=True, network=False)))
    assert "kept from files only" in caplog.text


async def test_a_waiting_process_is_confined_already(videos: VideoDecoder) -> None:
    await decode(videos, scene.video(range(2)))
    await until(idle)
    spare = forked()[0]
    lines = Path(f"/proc/{spare.pid}/status").read_text().splitlines()  # noqa: ASYNC240
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Seccomp"].strip() == "2"
    assert status["NoNewPrivs"].strip() == "1"


async def test_what_it_does_not_get_in_memory_is_no_fault_of_the_file() -> None:
    large = [scene.picture(n).repeat(4, axis=0).repeat(4, axis=1) for n in range(5)]
    data = movie(large, codec="libx264", kind="mp4")
    outcomes: set[int | str] = set()
    # Beside the 12.6 that the pixels give. FFmpeg says little where little is missing.
    for megabytes in (-12.4, -12.3, -12.2, -12.1, -12.0, -11.9, -10, -6, 0, 100):
        videos = VideoDecoder(memory_bytes=round(megabytes * 1_000_000))
        try:
            outcomes.add(len(await decode(videos, data, size=(4 * SIZE[0], 4 * SIZE[1]))))
        except CostlyVideo as error:
            outcomes.add(str(error).partition(" MB")[2])
        finally:
            await videos.close()
    assert outcomes == {5, " to decode"}


async def test_a_video_that_takes_too_long_is_refused() -> None:
    videos = VideoDecoder(cpu_s=1)
    with pytest.raises(CostlyVideo, match="more than 1 s of processor time") as caught:
        async with asyncio.timeout(PATIENCE_S):
            await decode(videos, endless(), size=(HUGE, HUGE))
    assert caught.value.limit == 1
    await videos.close()


async def test_a_video_that_nobody_waits_for_is_given_up(videos: VideoDecoder) -> None:
    with Workers(threads=1) as workers:
        request = VideoRequest(endless(), (HUGE, HUGE), LARGEST, skip=2**31)
        begun = asyncio.create_task(videos.decode(request, lambda *_: None, workers))
        await asyncio.sleep(0.5)
        started = time.monotonic()
        await workers.start(int)  # no worker is held by it
        begun.cancel()
        await asyncio.wait([begun])
        await until(idle)
        assert time.monotonic() - started < 5
    assert len(await decode(videos, scene.video(range(2)))) == 2


async def test_a_video_whose_client_has_gone_is_given_up(videos: VideoDecoder) -> None:
    async def check() -> None:
        raise ConnectionAbortedError

    request = VideoRequest(endless(), (HUGE, HUGE), LARGEST, skip=2**31, check=check)
    with Workers(threads=1) as workers, pytest.raises(ConnectionAbortedError):
        async with asyncio.timeout(PATIENCE_S):
            await videos.decode(request, lambda *_: None, workers)
    await until(idle)


async def test_many_videos_at_once_take_turns(videos: VideoDecoder) -> None:
    found = await asyncio.gather(*(decode(videos, scene.video(range(n))) for n in range(1, 9)))
    assert [len(each) for each in found] == list(range(1, 9))


async def test_after_the_process_was_killed_videos_are_decoded_again(videos: VideoDecoder) -> None:
    await decode(videos, scene.video(range(2)))
    await until(idle)
    for child in children():
        child.kill()
    with suppress(DecoderUnavailable):  # its end may not have been seen yet
        await decode(videos, scene.video(range(2)))
    assert len(await decode(videos, scene.video(range(2)))) == 2


async def test_a_child_that_is_killed_is_said_to_be(videos: VideoDecoder) -> None:
    begun = asyncio.create_task(decode(videos, endless(), size=(HUGE, HUGE)))
    await until(lambda: bool(forked()))
    await asyncio.sleep(0.3)
    forked()[0].send_signal(signal.SIGSEGV)
    with pytest.raises(BadVideo, match=r"the decoder failed on this video \(signal 11\)"):
        await begun


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_it_all_ends_with_the_service(kill: signal.Signals) -> None:
    program = """
import asyncio, sys
from tests.service.media.test_video_decoder import *

async def main():
    print("ready", flush=True)
    await decode(VideoDecoder(), endless(), size=(HUGE, HUGE))

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        service.stdout.readline()
        while len(below := psutil.Process(service.pid).children(recursive=True)) < 2:
            time.sleep(0.01)
        service.send_signal(kill)
    _, alive = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert alive == []


async def test_no_descriptor_is_left_of_thirty_videos(videos: VideoDecoder) -> None:
    data = scene.video(range(2))
    await decode(videos, data)
    before = psutil.Process().num_fds()
    for _ in range(30):
        await decode(videos, data)
    await until(idle)
    assert psutil.Process().num_fds() <= before + 2  # of the two that wait
