"""Videos read the way players show them, in one place for the service and the command line.

That is: which track is the video, where it is cut off, and for each picture its time, the shape
of its pixels and how it is turned. No array library is needed here, so that the process that
decodes the videos of strangers stays small.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, Final, NamedTuple, cast

import av
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from service.errors import BadVideo, DamagedVideo, UnknownCodec
from service.media.video_index import is_cut_off

USUAL_FPS: Final = 24.0
MOST_FPS: Final = 480.0
STILL: Final = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
# An encoder's name for a codec is not always the codec's: FFmpeg reads AV1 with libdav1d.
DECODERS: Final = {"av1": ("libdav1d", "libaom-av1", "av1")}


class Turn(NamedTuple):
    """How a picture is turned: rows and columns exchanged first, then the sides."""

    transposed: bool = False
    left_right: bool = False
    upside_down: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded picture: its number in order of display and its seconds after the first one.

    `size` (height, width) is that of square pixels, before the picture is turned.
    """

    number: int
    time_s: float
    frame: VideoFrame
    size: tuple[int, int]
    turn: Turn

    def rgb(self) -> VideoFrame:
        """Return the picture as packed RGB of `size`, not yet turned."""
        height, width = self.size
        if (height, width) == (self.frame.height, self.frame.width):
            return self.frame.reformat(format="rgb24", threads=1)
        return self.frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1)


def turn_of(frame: VideoFrame) -> Turn:
    """Return how players turn a picture, from the whole display matrix."""
    # Its own `get` knows names only, of which it has none.
    data = cast("SideDataContainer", frame.side_data)
    found = [each for each in data if each.type is Type.DISPLAYMATRIX]
    if not found:
        return Turn()
    matrix = memoryview(found[0]).cast("i")
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    # A pixel at (x, y) is shown at (a x + c y, b x + d y): the nearest right angle is taken.
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Turn(left_right=a < 0, upside_down=d < 0)
    return Turn(transposed=True, left_right=c < 0, upside_down=b < 0)


class VideoReader:
    """An open video. `size` (height, width) is that of its square pixels, before it is turned.

    A live one has `live_wait_s`, the seconds in which each next picture has to come. What cannot
    be decoded of it is passed over: it may begin within a picture.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        *,
        cut_off: bool,
        live_wait_s: float | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._live_wait_s = live_wait_s
        self._damage = "the file is cut off" if cut_off else ""
        self.size = self._shape(stream.codec_context.height, stream.codec_context.width)

    @property
    def fps(self) -> float:
        """The mean number of frames a second, as far as the file tells."""
        # A WebM of a browser tells the ticks of its clock.
        rates = (self._stream.average_rate, self._stream.guessed_rate)
        return next((float(rate) for rate in rates if rate and rate <= MOST_FPS), USUAL_FPS)

    @property
    def count(self) -> int | None:
        """The number of frames, None if the file does not tell."""
        if self._stream.frames:
            return self._stream.frames
        rate, time_base = self._stream.average_rate, self._stream.time_base
        if self._stream.duration and time_base and rate and rate <= MOST_FPS:
            return round(float(self._stream.duration * time_base * rate))
        return None

    def restrict(self, *, max_pixels: int) -> None:
        """Let no larger picture be decoded, and no thread be started."""
        self._stream.codec_context.options = {"max_pixels": str(max_pixels)}
        self._stream.codec_context.thread_count = 1

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures in order of display.

        Raise DamagedVideo at the first one that cannot be decoded, which may be after the last.
        """
        start = shown = 0.0
        number, turn = 0, Turn()
        for frame in self._frames():
            # A file may tell no time, or the same one twice.
            told = frame.time
            if number == 0:
                start = told or 0.0
                # Once: a frame whose side data are looked at waits for the garbage collector.
                turn = turn_of(frame)
            elif told is not None and told - start > shown:
                shown = told - start
            else:
                shown += 1 / self.fps
            yield Picture(number, shown, frame, self._shape(frame.height, frame.width), turn)
            number += 1
        if self._damage:
            raise DamagedVideo(f"picture {number} of the video cannot be decoded: {self._damage}")

    def _live_frames(self, wait_s: float) -> Iterator[VideoFrame]:
        """Yield what can be decoded; raise DamagedVideo where that takes longer than `wait_s`."""
        came_s = time.monotonic()
        for packet in self._container.demux():  # sound too: it comes on where the pictures do not
            if time.monotonic() - came_s > wait_s:
                raise DamagedVideo(f"no picture came for {wait_s:g} s")
            if packet.stream.index != self._stream.index:
                continue
            with suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    if isinstance(frame, VideoFrame) and not frame.is_corrupt:
                        yield frame
                        came_s = time.monotonic()

    def _frames(self) -> Iterator[VideoFrame]:
        """Yield what can be decoded, and note what is wrong after it."""
        if self._live_wait_s is not None:
            yield from self._live_frames(self._live_wait_s)
            return
        for packet in self._container.demux(self._stream):
            if packet.is_corrupt:
                self._damage = "the file is cut off"
                break
            try:
                for frame in packet.decode():
                    if frame.is_corrupt:
                        self._damage = "its data are damaged"
                        return
                    yield frame
            except av.error.InvalidDataError:
                self._damage = "its data are damaged"
                break
        else:
            return
        # The decoder holds back what is to be shown later: some of it before the damaged picture.
        last = av.Packet()
        last.stream, last.time_base = self._stream, packet.time_base
        with suppress(av.error.InvalidDataError):
            for late in last.decode():
                assert isinstance(late, VideoFrame)
                if late.pts is not None and packet.pts is not None and late.pts < packet.pts:
                    yield late

    def _shape(self, height: int, width: int) -> tuple[int, int]:
        """Return a picture's size in square pixels: as in browsers, one side grows."""
        aspect = self._stream.sample_aspect_ratio or Fraction(1)
        if aspect > 1:
            return height, round(width * aspect)
        return round(height / aspect) if aspect > 0 else height, width


@contextmanager
def open_video(
    file: BinaryIO, *, kind: str | None = None, codecs: Collection[str] | None = None
) -> Iterator[VideoReader]:
    """Open the video in a file of FFmpeg's format `kind` (None: any), of these codecs (None: all).

    Raises:
        BadVideo: it cannot be read, or holds no video.
        UnknownCodec: of another codec, which is found before anything is decoded.
        MemoryError: it takes more memory than the process may have.
    """
    cut_off = is_cut_off(file)
    file.seek(0)
    options = {}
    if codecs is not None:
        # FFmpeg decodes a little of every track while it opens a file.
        names = [name for codec in codecs for name in DECODERS.get(codec, (codec,))]
        options["codec_whitelist"] = ",".join(names)
    try:
        # An open file and no name: FFmpeg takes "12:30.mp4" for a protocol, and follows links.
        # Titles may be of any encoding, and none is read here.
        with av.open(
            file, "r", format=kind, options=options, metadata_errors="replace"
        ) as container:
            stream = choose_track(container)
            context = stream.codec_context
            name = context.codec.canonical_name if context else "unknown"
            if context is None or (codecs is not None and name not in codecs):
                known = ", ".join(sorted(codecs or ("all that FFmpeg knows",)))
                raise UnknownCodec(f"the video's codec is {name}; read are: {known}")
            yield VideoReader(container, stream, cut_off=cut_off)
    except av.FFmpegError as error:
        if isinstance(error, MemoryError | BlockingIOError):
            raise MemoryError from error
        raise BadVideo(f"the video cannot be read: {error.strerror}") from error


def choose_track(container: InputContainer) -> VideoStream:
    """Return the track that players show; raise BadVideo if there is none.

    Covers and thumbnails are tracks too, as are small previews beside the video.
    """
    tracks = [track for track in container.streams.video if not track.disposition & STILL]
    if not tracks:
        still = "only a cover picture" if container.streams.video else "no video track"
        raise BadVideo(f"the file holds {still}")

    def rank(track: VideoStream) -> tuple[bool, bool, int]:
        context = track.codec_context
        pixels = context.width * context.height if context else 0
        return bool(track.disposition & Disposition.default), track.frames != 1, pixels

    return max(tracks, key=rank)
