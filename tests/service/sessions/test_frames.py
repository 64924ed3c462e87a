"""Images and videos become frames: what they are known by, what is kept, what the model sees."""

from __future__ import annotations

import hashlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from fractions import Fraction

import av
import numpy as np
import pytest

from model.core.image_headers import ImageLimits
from model.core.pixels import model_frame
from service.errors import BadVideo, PictureTooLarge, TooManyFrames, WrongFrameSize
from service.media.video_decoder import VideoDecoder
from service.server.workers import Workers
from service.sessions.frames import (
    Frame,
    Limits,
    VideoUpload,
    make_frame_of_image,
    make_frames_of_video,
)
from tests.support import scene

pytestmark = pytest.mark.anyio

FRAME_SIZE = (scene.HEIGHT, scene.WIDTH)
MODEL_SIZE = (64, 96)
LIMITS = Limits(image=ImageLimits(), append_frames=64, video_frames=10, objects=16)


def read(data: bytes) -> Frame:
    return make_frame_of_image(
        data, LIMITS.image, name="it", frame_size=FRAME_SIZE, model_size=MODEL_SIZE
    )


@pytest.fixture(scope="module")
async def videos() -> AsyncIterator[VideoDecoder]:
    videos = VideoDecoder()
    yield videos
    await videos.close()


ReadVideo = Callable[..., Awaitable[list[Frame]]]


@pytest.fixture
def read_video(videos: VideoDecoder) -> ReadVideo:
    """Read a video in a process of its own, as the service does."""

    async def read(video: VideoUpload, limits: Limits = LIMITS) -> list[Frame]:
        with Workers(threads=1) as workers:
            sizes = {"frame_size": FRAME_SIZE, "model_size": MODEL_SIZE}
            return await make_frames_of_video(video, limits, videos, workers, **sizes)

    return read


def test_an_image_is_known_by_its_bytes() -> None:
    assert read(scene.jpeg(1)).digest == hashlib.sha256(scene.jpeg(1)).hexdigest()


def test_a_small_jpeg_is_kept_as_it_came() -> None:
    assert read(scene.jpeg(1)).stored == scene.jpeg(1)


def test_any_other_image_is_kept_as_a_jpeg() -> None:
    stored = read(scene.png(1)).stored
    assert stored.startswith(b"\xff\xd8")
    assert stored != scene.png(1)


@pytest.mark.parametrize("data", [scene.jpeg(1), scene.png(1)])
def test_the_model_sees_what_the_memory_keeps(data: bytes) -> None:
    frame = read(data)
    assert (frame.at(MODEL_SIZE) == model_frame(frame.stored, MODEL_SIZE)).all()


@pytest.mark.parametrize("kind", ["mp4", "mov", "webm"])
async def test_a_video_gives_its_pictures_in_order(kind: str, read_video: ReadVideo) -> None:
    frames = await read_video(VideoUpload(scene.video(range(5), kind=kind)))
    assert len(frames) == 5
    for number, frame in enumerate(frames):
        seen = frame.at(MODEL_SIZE).astype(int)
        red = seen[16, :, 0] - seen[16, :, 2] > 90
        left = (8 + 2 * number) * MODEL_SIZE[1] / scene.WIDTH
        assert abs(np.flatnonzero(red)[0] - left) <= 2


async def test_a_picture_of_a_video_is_the_same_each_time(read_video: ReadVideo) -> None:
    movie = scene.video(range(5))
    again = await read_video(VideoUpload(movie, skip=2, count=2))
    whole = await read_video(VideoUpload(movie))
    assert [frame.digest for frame in again] == [frame.digest for frame in whole[2:4]]


async def test_pictures_of_a_video_differ(read_video: ReadVideo) -> None:
    frames = await read_video(VideoUpload(scene.video(range(5))))
    assert len({frame.digest for frame in frames}) == 5


async def test_a_video_of_more_frames_than_allowed_is_refused(read_video: ReadVideo) -> None:
    with pytest.raises(TooManyFrames, match="10 frames") as caught:
        await read_video(VideoUpload(scene.video(range(11))))
    assert caught.value.limit == 10


async def test_the_part_that_is_asked_for_counts(read_video: ReadVideo) -> None:
    assert len(await read_video(VideoUpload(scene.video(range(20)), skip=3, count=10))) == 10


async def test_a_video_larger_than_allowed_is_refused(read_video: ReadVideo) -> None:
    small = Limits(
        image=ImageLimits(max_width=100, max_height=100),
        append_frames=1,
        video_frames=1,
        objects=1,
    )
    with pytest.raises(PictureTooLarge, match="128x96"):
        await read_video(VideoUpload(scene.video(range(2))), small)


def growing_video(*, height: int, width: int) -> bytes:
    """A WebM whose second picture is of this size, while its header and first tell another."""
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        stream = container.add_stream("libvpx", rate=24)
        stream.width, stream.height, stream.pix_fmt = scene.WIDTH, scene.HEIGHT, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(scene.picture(0), format="rgb24")))
        container.mux(stream.encode())
        grown = av.CodecContext.create("libvpx", "w")
        assert isinstance(grown, av.VideoCodecContext)
        grown.width, grown.height, grown.pix_fmt = width, height, "yuv420p"
        grown.time_base = Fraction(1, 24)
        blank = av.VideoFrame.from_ndarray(np.zeros((height, width, 3), np.uint8), format="rgb24")
        for packet in [*grown.encode(blank), *grown.encode(None)]:
            packet.stream = stream
            packet.pts = packet.dts = 1
            container.mux(packet)
    return file.getvalue()


async def test_a_video_whose_pictures_change_their_size_is_refused(read_video: ReadVideo) -> None:
    with pytest.raises(WrongFrameSize, match="picture 1 of the video is 160x120"):
        await read_video(VideoUpload(growing_video(height=120, width=160)))


async def test_a_picture_that_grows_huge_is_not_decoded(read_video: ReadVideo) -> None:
    image = ImageLimits(max_width=128, max_height=96)
    limits = Limits(image=image, append_frames=1, video_frames=10, objects=1)
    with pytest.raises(BadVideo):
        await read_video(VideoUpload(growing_video(height=480, width=640)), limits)


async def test_a_playlist_is_never_followed(read_video: ReadVideo) -> None:
    with pytest.raises(BadVideo, match="neither"):
        await read_video(VideoUpload(b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/x.mp4\n"))
