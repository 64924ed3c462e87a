"""Turn the bytes of images and videos into frames, checked before they cost anything.

Sizes are (height, width); h and w are the model's. What is not asynchronous is pure and blocks:
run it in the thread pool.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.core import image_headers, pixels
from model.core.image_headers import ImageLimits
from service.errors import (
    BadImage,
    BadVideo,
    NoFrames,
    PictureTooLarge,
    TooManyFrames,
    TruncatedImage,
    WrongFrameSize,
)
from service.media.video_decoder import VideoDecoder, VideoRequest
from service.server.workers import Workers

Size = tuple[int, int]

# A file of twenty minutes is sent in twenty parts, each of which decodes what is before it.
DECODED_FOR_EACH_TAKEN: Final = 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    image: ImageLimits
    append_frames: int
    video_frames: int
    objects: int
    short_side: int | None = None  # of what a model sees, at most; None: as large as it says

    @property
    def video_pictures(self) -> int:
        """The pictures of a video that one append decodes, those that it leaves out included."""
        return DECODED_FOR_EACH_TAKEN * self.video_frames

    def check_count(self, images: int) -> None:
        """Raise TooManyFrames unless one append takes so many images."""
        if images > self.append_frames:
            raise TooManyFrames(
                f"{images} frames; one append takes {self.append_frames}: send the rest in "
                "another, or raise TAMVT_MAX_APPEND_FRAMES",
                limit=self.append_frames,
            )


@dataclass(frozen=True, slots=True)
class VideoUpload:
    """A video file: `count` frames of it (None: all) after the first `skip`.

    `check` raises when nobody waits for them any more.
    """

    data: bytes
    skip: int = 0
    count: int | None = None
    check: Callable[[], Awaitable[None]] | None = None


# The encoded images of an append, in order; or a video that holds them.
Source = Sequence[bytes] | VideoUpload


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame as a session takes it."""

    digest: str  # SHA-256 (hex): of an image's bytes; of `stored` for a picture out of a video
    stored: bytes  # what a memory keeps of it
    pixels: NDArray[np.uint8] | None  # (h, w, 3), or None: decode `stored` when it is needed

    def at(self, model_size: Size) -> NDArray[np.uint8]:
        """Return what the model sees, (h, w, 3)."""
        if self.pixels is not None:
            return self.pixels
        return pixels.model_frame(self.stored, model_size)


async def read_frames(
    source: Source,
    limits: Limits,
    videos: VideoDecoder,
    workers: Workers,
    *,
    frame_size: Size,
    model_size: Size,
) -> Sequence[Frame]:
    """Return the frames of an append, each of them checked.

    Raises NoFrames, TooManyFrames, and what `make_frame_of_image` and `make_frames_of_video` raise.
    """
    sizes = {"frame_size": frame_size, "model_size": model_size}
    if isinstance(source, VideoUpload):
        return await make_frames_of_video(source, limits, videos, workers, **sizes)
    if not source:
        raise NoFrames("the request holds no frame")
    limits.check_count(len(source))
    named = ((f"frame {number} of the request", data) for number, data in enumerate(source, 1))
    return await asyncio.gather(
        *(
            workers.start(make_frame_of_image, data, limits.image, name=name, **sizes)
            for name, data in named
        )
    )


def count_picture(data: bytes, limits: ImageLimits, *, name: str) -> int:
    """Return how many pixels an image decodes to, from its header; raise as `read_picture` does."""
    with _named_errors(limits, name=name):
        header = image_headers.read_header(data, limits)
    return header.height * header.width


def read_picture(data: bytes, limits: ImageLimits, *, name: str) -> NDArray[np.uint8]:
    """Decode an image, (H, W, 3); `name` tells errors which one it is.

    Raises:
        BadImage, TruncatedImage: the bytes are no image, or only the beginning of one.
        PictureTooLarge: wider or higher than the limits, which is found before decoding.
    """
    with _named_errors(limits, name=name):
        return pixels.read_image(data, limits)


@contextmanager
def _named_errors(limits: ImageLimits, *, name: str) -> Iterator[None]:
    """Raise our own errors, with the picture's name, for those of the block."""
    try:
        yield
    except image_headers.TooLarge as error:
        most = max(limits.max_width, limits.max_height)
        raise PictureTooLarge(f"{name}: {error}", limit=most) from error
    except image_headers.Truncated as error:
        raise TruncatedImage(f"{name}: {error}") from error
    except image_headers.PixelError as error:
        raise BadImage(f"{name}: {error}") from error


def make_frame_of_picture(data: bytes, rgb: NDArray[np.uint8], *, model_size: Size) -> Frame:
    """Return the frame of an image whose decoded picture is `rgb` (H, W, 3)."""
    stored = pixels.keep_frame(data, rgb, model_size)
    # A JPEG that is kept as it came has been decoded already: `rgb` is what model_frame would see.
    kept = pixels.resize_frame(rgb, model_size) if stored is data else None
    seen = kept if kept is not None else pixels.model_frame(stored, model_size)
    return Frame(digest=hashlib.sha256(data).hexdigest(), stored=stored, pixels=seen)


def make_frame_of_image(
    data: bytes, limits: ImageLimits, *, name: str, frame_size: Size, model_size: Size
) -> Frame:
    """Return the frame of an encoded image; raise WrongFrameSize unless it has the session's."""
    rgb = read_picture(data, limits, name=name)
    check_size(rgb, frame_size, name=name)
    return make_frame_of_picture(data, rgb, model_size=model_size)


def check_size(rgb: NDArray[np.uint8], frame_size: Size, *, name: str) -> None:
    """Raise WrongFrameSize unless the picture (H, W, 3) has this size."""
    height, width = rgb.shape[:2]
    if (height, width) != frame_size:
        expected = f"{frame_size[1]}x{frame_size[0]}"
        raise WrongFrameSize(f"{name} is {width}x{height}, but the session's frames are {expected}")


async def make_frames_of_video(
    video: VideoUpload,
    limits: Limits,
    videos: VideoDecoder,
    workers: Workers,
    *,
    frame_size: Size,
    model_size: Size,
) -> list[Frame]:
    """Return the frames of a video, in order of display.

    Raises:
        TooManyFrames: more than the limits allow would be taken, or passed over.
        BadVideo: without a frame, and what `VideoDecoder.decode` raises.
    """
    if video.skip + (video.count or 1) > limits.video_pictures:
        raise TooManyFrames(
            f"one append decodes {limits.video_pictures} frames of a video, with those that are "
            "left out at its beginning; send a shorter file",
            limit=limits.video_pictures,
        )
    most = limits.video_frames

    def take(number: int, rgb: NDArray[np.uint8]) -> Frame:
        if number - video.skip == most:
            raise TooManyFrames(
                f"one append takes {most} frames of a video; name a part of it with the "
                "parameters skip and count",
                limit=most,
            )
        # Only the JPEG is kept until its clip comes: a video may have a thousand frames.
        stored = pixels.keep_frame(None, rgb, model_size)
        return Frame(digest=hashlib.sha256(stored).hexdigest(), stored=stored, pixels=None)

    request = VideoRequest(
        video.data,
        size=frame_size,
        largest=(limits.image.max_height, limits.image.max_width),
        skip=video.skip,
        count=min(video.count or most + 1, most + 1),
        check=video.check,
    )
    frames = await videos.decode(request, take, workers)
    if not frames:
        raise BadVideo(f"the video holds no frame after the first {video.skip}")
    return frames
