"""Videos in and out: encoded frames from a file or a folder of images, an MP4 from frames.

H and W are a frame's height and width; every picture is uint8 RGB (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, cast

import av
import numpy as np
from av.video.stream import VideoStream
from numpy.typing import NDArray

from model.core.frame_files import FolderError, list_frames, read_frame_file
from model.core.image_headers import PixelError
from service.errors import BadVideo
from service.media.images import decode_image, encode_jpeg, fitting_image, turned
from service.media.video_reader import Picture, open_video

FOLDER_FPS = 24.0
TICK_S = Fraction(1, 60_000)  # MPEG-4 counts to 65,535, and these are whole at usual frame rates
# x264 is in PyAV's wheels; builds of FFmpeg without it have one of the others.
ENCODERS = ("libx264", "libopenh264", "mpeg4")


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One frame of a source: its number, the stem its mask file gets, and its encoded image.

    It is shown so many seconds after the first frame of the source.
    """

    number: int
    name: str
    image: bytes
    time_s: float


@dataclass(frozen=True, slots=True)
class Source:
    """A video file, or a folder of images in natural order (`images` is empty for a file).

    `count` is the number of frames, None if a file does not say; `left_out` says what else lies in
    a folder. `fps` is the mean number of frames a second, for a folder what is usual. Of a folder
    that is being filled `arrives` waits for an image, by its number, and tells whether it came.
    """

    path: Path
    images: tuple[Path, ...]
    count: int | None
    left_out: str = ""
    fps: float = FOLDER_FPS
    arrives: Callable[[int], bool] = field(default=lambda _: True, compare=False, repr=False)

    def name_of(self, number: int) -> str:
        """Return what a message calls a frame: its file, or its number."""
        return repr(self.images[number].name) if self.images else f"frame {number}"

    def stem_of(self, number: int) -> str:
        """Return the stem of a frame's mask file."""
        return self.images[number].stem if self.images else f"{number:05d}"

    def name_image(self, number: int) -> str:
        """Return the name of a frame's picture: its file's, or one by its number."""
        return self.images[number].name if self.images else f"{number:05d}.jpg"

    def pictures(self) -> Iterator[tuple[int, float, Callable[[], NDArray[np.uint8]]]]:
        """Yield number and seconds of every frame, and what gives its picture (H, W, 3) by then.

        Raises:
            DamagedVideo: what comes after the frames that were yielded cannot be decoded.
        """
        for number, image in enumerate(self.images):
            yield number, number / self.fps, partial(_read_picture, image)
        if not self.images:
            with self.path.open("rb") as file, open_video(file) as video:
                for picture in video.pictures():
                    yield picture.number, picture.time_s, partial(turn_upright, picture)

    def frames(self, *, first: int = 0) -> Iterator[SourceFrame]:
        """Yield the frames from number `first` on, with the same bytes in every call.

        JPEG, PNG and WebP images of a folder are read as they are, unless they are large; others
        become PNGs or JPEGs, and the frames of a file JPEGs.

        Raises:
            BadVideo: the file is damaged, or an image cannot be read; it names the image.
        """
        for number, image in enumerate(self.images[first:], start=first):
            if not self.arrives(number):
                return
            try:
                data = fitting_image(read_frame_file(image))
            except OSError as error:
                raise BadVideo(f"{image.name!r} cannot be read: {error.strerror}") from error
            except PixelError as error:
                raise BadVideo(f"{image.name!r}: {error}") from error
            yield SourceFrame(number, self.stem_of(number), data, number / self.fps)
        if not self.images:
            # From the start: seeking by number is not exact in files with a variable frame rate.
            with self.path.open("rb") as file:
                for number, time_s, rgb in decode_video(file, first=first):
                    yield SourceFrame(number, self.stem_of(number), encode_jpeg(rgb), time_s)


def _read_picture(image: Path) -> NDArray[np.uint8]:
    return decode_image(fitting_image(read_frame_file(image)))


def open_source(path: Path, *, mask: Path | None = None) -> Source:
    """Open the video at `path`: a file, or a folder of images, of which the `mask` is none.

    Raises:
        BadVideo: there is nothing to read, or two images would share one mask file.
    """
    if path.is_dir():
        try:
            files = list_frames(path, mask=mask)
            files.check()
        except FolderError as error:
            raise BadVideo(str(error)) from error
        except OSError as error:
            raise BadVideo(f"{str(path)!r} cannot be read: {error.strerror}") from error
        return Source(path, files.frames, len(files.frames), left_out=files.left_out)
    if not path.is_file():
        raise BadVideo(f"there is no video or folder {str(path)!r}")
    with path.open("rb") as file, open_video(file) as video:
        return Source(path=path, images=(), count=video.count, fps=video.fps)


def decode_video(
    file: BinaryIO, *, first: int = 0
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Yield the pictures from number `first` on, upright: number, seconds and pixels (H, W, 3).

    Raises:
        BadVideo: FFmpeg cannot read the file.
        DamagedVideo: what comes after the pictures that were yielded cannot be decoded.
    """
    with open_video(file) as video:
        for picture in video.pictures():
            if picture.number >= first:
                yield picture.number, picture.time_s, turn_upright(picture)


def turn_upright(picture: Picture) -> NDArray[np.uint8]:
    """Return a decoded picture (H, W, 3) as it is shown."""
    return turned(np.asarray(picture.rgb().to_ndarray(), np.uint8), *picture.turn)


class VideoWriter:
    """Writes an MP4 that plays in a browser: H.264 where the build has it, yuv420p.

    The first picture decides the size. An odd last row or column is left out: yuv420p has even
    sides only. The end of the block closes the file; an error in it removes the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # "file:", or FFmpeg takes "run:1/overlay.mp4" for a protocol.
        self._container = av.open(f"file:{path}", "w", options={"movflags": "faststart"})
        self._stream: VideoStream | None = None
        self._first_s: float | None = None
        self._ticks = -1  # when the last picture is shown

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write(self, rgb: NDArray[np.uint8], *, time_s: float) -> None:
        """Append one picture (H, W, 3); `time_s` is counted from the first one's."""
        height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
        if self._stream is None:
            encoder = next(name for name in ENCODERS if name in av.codecs_available)
            stream = cast("VideoStream", self._container.add_stream(encoder, rate=24))
            stream.codec_context.time_base = TICK_S
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            if encoder == "libx264":
                stream.options = {"crf": "20", "preset": "veryfast"}
            else:
                stream.bit_rate = height * width * 8
            self._stream = stream
        picture = np.ascontiguousarray(rgb[:height, :width])
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._first_s = time_s if self._first_s is None else self._first_s
        self._ticks = max(self._ticks + 1, round((time_s - self._first_s) / TICK_S))
        frame.pts, frame.time_base = self._ticks, TICK_S
        self._container.mux(self._stream.encode(frame))
