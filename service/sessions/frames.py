"""Turn the bytes of images and videos into frames, checked before they cost anything.

Sizes are (height, width); h and w are the model's. All but `read_frames` is pure and blocks: run
it in the thread pool.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
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
from service.media import video_index
from service.media.video import upright
from service.media.video_reader import open_video
from service.server.workers import Workers

Size = tuple[int, int]

# What is read of the videos of strangers; the names are FFmpeg's.
CODECS: Final = frozenset(["h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg", "prores"])


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold."""

    image: ImageLimits
    append_frames: int
    video_frames: int
    objects: int

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
    """A video file: `count` frames of it (None: all) after the first `skip`."""

    data: bytes
    skip: int = 0
    count: int | None = None


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
    source: Source, limits: Limits, workers: Workers, *, frame_size: Size, model_size: Size
) -> Sequence[Frame]:
    """Return the frames of an append, each of them checked.

    Raises NoFrames, TooManyFrames, and what `frame_of_image` and `frames_of_video` raise.
    """
    sizes = {"frame_size": frame_size, "model_size": model_size}
    if isinstance(source, VideoUpload):
        return await workers.start(frames_of_video, source, limits, **sizes)
    if not source:
        raise NoFrames("the request holds no frame")
    limits.check_count(len(source))
    named = ((f"frame {number} of the request", data) for number, data in enumerate(source, 1))
    return await asyncio.gather(
        *(
            workers.start(frame_of_image, data, limits.image, name=name, **sizes)
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


def frame_of_picture(data: bytes, rgb: NDArray[np.uint8], *, model_size: Size) -> Frame:
    """Return the frame of an image whose decoded picture is `rgb` (H, W, 3)."""
    stored = pixels.keep_frame(data, rgb, model_size)
    # A JPEG that is kept as it came has been decoded already: `rgb` is what model_frame would see.
    kept = pixels.resize_frame(rgb, model_size) if stored is data else None
    seen = kept if kept is not None else pixels.model_frame(stored, model_size)
    return Frame(digest=hashlib.sha256(data).hexdigest(), stored=stored, pixels=seen)


def frame_of_image(
    data: bytes, limits: ImageLimits, *, name: str, frame_size: Size, model_size: Size
) -> Frame:
    """Return the frame of an encoded image; raise WrongFrameSize unless it has the session's."""
    rgb = read_picture(data, limits, name=name)
    check_size(rgb, frame_size, name=name)
    return frame_of_picture(data, rgb, model_size=model_size)


def check_size(rgb: NDArray[np.uint8], frame_size: Size, *, name: str) -> None:
    """Raise WrongFrameSize unless the picture (H, W, 3) has this size."""
    height, width = rgb.shape[:2]
    if (height, width) != frame_size:
        expected = f"{frame_size[1]}x{frame_size[0]}"
        raise WrongFrameSize(f"{name} is {width}x{height}, but the session's frames are {expected}")


def frames_of_video(
    video: VideoUpload, limits: Limits, *, frame_size: Size, model_size: Size
) -> list[Frame]:
    """Return the frames of a video, in order of display.

    Raises:
        BadVideo: neither MP4, MOV nor WebM, damaged, or without a frame.
        PictureTooLarge, WrongFrameSize: as for images.
        TooManyFrames: more than the limits allow would be taken.
    """
    end = None if video.count is None else video.skip + video.count
    pictures = islice(enumerate(_pictures(video.data, limits.image)), video.skip, end)
    frames: list[Frame] = []
    for number, rgb in pictures:
        if len(frames) == limits.video_frames:
            raise TooManyFrames(
                f"one append takes {limits.video_frames} frames of a video; name a part of it "
                "with the parameters skip and count",
                limit=limits.video_frames,
            )
        check_size(rgb, frame_size, name=f"picture {number} of the video")
        # Only the JPEG is kept until its clip comes: a video may have a thousand frames.
        stored = pixels.keep_frame(None, rgb, model_size)
        digest = hashlib.sha256(stored).hexdigest()
        frames.append(Frame(digest=digest, stored=stored, pixels=None))
    if not frames:
        raise BadVideo(f"the video holds no frame after the first {video.skip}")
    return frames


def _pictures(data: bytes, limits: ImageLimits) -> Iterator[NDArray[np.uint8]]:
    """Yield every picture (H, W, 3) as players show it."""
    kind = video_index.format_of(data)
    if kind is None:  # FFmpeg guesses playlists, which fetch (decision 17)
        raise BadVideo("the video is neither MP4, MOV nor WebM")
    if kind == "mov":
        video_index.check_index(data)
    with open_video(io.BytesIO(data), kind=kind, codecs=CODECS) as video:
        # A picture may be turned by 90 degrees, so its sides are compared in order of length.
        largest = sorted((limits.max_width, limits.max_height))
        height, width = video.size
        if any(side > most for side, most in zip(sorted(video.size), largest, strict=True)):
            raise PictureTooLarge(
                f"the video is {width}x{height}; at most "
                f"{limits.max_width}x{limits.max_height} is allowed",
                limit=largest[-1],
            )
        # Pictures may grow within a video: the decoder gives up before it allocates a huge one.
        video.limit_pixels(2 * limits.max_width * limits.max_height)
        yield from map(upright, video.pictures())
