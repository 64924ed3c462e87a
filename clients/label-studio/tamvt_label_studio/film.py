"""A video as Label Studio shows it: upright pictures, each with the number that it has there."""

from __future__ import annotations

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
from av.container import InputContainer
from PIL import Image

from tamvt_label_studio.errors import NoPrediction

QUALITY = 95


@dataclass(frozen=True, eq=False)
class Film:
    """A video file. Label Studio counts its frames from 1, `rate` a second, whatever the file has.

    Pictures are numbered from 0, as they are in the file.
    """

    path: Path
    rate: float

    @cached_property
    def times(self) -> list[float]:
        """The seconds of each picture after the first one."""
        with self._open() as container:
            stream = container.streams.video[0]
            step = 1 / float(stream.average_rate or self.rate)
            base = stream.time_base or Fraction(1)
            stamps = [
                float(packet.pts * base)
                for packet in container.demux(stream)
                if packet.pts is not None
            ]
        if not stamps:
            raise NoPrediction("the video tells no times; save it as MP4 or WebM")
        first = min(stamps)
        times = sorted(stamp - first for stamp in stamps)
        return times if len(set(times)) == len(times) else [n * step for n in range(len(times))]

    @property
    def frames_count(self) -> int:
        """How many frames Label Studio counts."""
        return self.shown_as(len(self.times) - 1)

    @property
    def duration(self) -> float:
        """The seconds of the video."""
        return self.frames_count / self.rate

    def shown_as(self, picture: int) -> int:
        """Return the number that Label Studio gives to a picture."""
        return round(self.times[picture] * self.rate) + 1

    def picture_at(self, frame: int) -> int:
        """Return the picture that is seen at a frame of Label Studio."""
        moment = (frame - 1) / self.rate
        return min(range(len(self.times)), key=lambda n: abs(self.times[n] - moment))

    def pictures(self, first: int = 0) -> Generator[tuple[int, bytes, tuple[int, int]]]:
        """Yield number, JPEG and size (H, W) of the pictures from `first` on."""
        with self._open() as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number >= first:
                    image = frame.to_image()  # type: ignore[no-untyped-call]
                    turned = image.rotate(frame.rotation, expand=True) if frame.rotation else image
                    yield number, _jpeg(turned), (turned.height, turned.width)

    @contextmanager
    def _open(self) -> Iterator[InputContainer]:
        try:
            # An open file: names with a colon are no protocol.
            with (
                self.path.open("rb") as file,
                av.open(file, "r", metadata_errors="replace") as container,
            ):
                yield container
        except av.FFmpegError as error:
            raise NoPrediction(f"the video cannot be read: {error.strerror}") from error


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
