"""Videos made with FFmpeg's own libraries, of any codec it writes."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.container import OutputContainer
from av.video.stream import VideoStream
from numpy.typing import NDArray

# Where a codec does not take yuv420p.
PIXEL_FORMATS = {
    "mjpeg": "yuvj420p",
    "prores_ks": "yuv422p10le",
    "qtrle": "rgb24",
    "png": "rgb24",
    "cinepak": "rgb24",
}
Picture = NDArray[np.uint8]


def noise(count: int, *, height: int, width: int) -> list[Picture]:
    """Return pictures that no codec makes small, the same in every call."""
    generator = np.random.default_rng(1)
    return [generator.integers(0, 255, (height, width, 3), np.uint8) for _ in range(count)]


def add_track(container: OutputContainer, codec: str, *, height: int, width: int) -> VideoStream:
    """Add a video track whose times are milliseconds."""
    stream = cast("VideoStream", container.add_stream(codec, rate=24))
    stream.height, stream.width = height, width
    stream.pix_fmt = PIXEL_FORMATS.get(codec, "yuv420p")
    stream.codec_context.time_base = Fraction(1, 1000)
    return stream


def write(
    container: OutputContainer,
    stream: VideoStream,
    pictures: Sequence[Picture],
    times_ms: Sequence[int] | None = None,
) -> None:
    """Write all pictures of a track, at these times or 25 a second."""
    for number, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts = times_ms[number] if times_ms else number * 40
        frame.time_base = Fraction(1, 1000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def movie(
    pictures: Sequence[Picture],
    times_ms: Sequence[int] | None = None,
    *,
    kind: str = "mp4",
    codec: str = "libx264",
    aspect: Fraction | None = None,
    index_first: bool = False,
) -> bytes:
    """Return a file with one video track."""
    height, width = pictures[0].shape[:2]
    # A file with a name: FFmpeg opens it once more to put the index at its beginning.
    with tempfile.NamedTemporaryFile() as file:
        options = {"movflags": "faststart"} if index_first else {}
        with av.open(file.name, "w", format=kind, options=options) as container:
            stream = add_track(container, codec, height=height, width=width)
            if aspect:
                stream.codec_context.sample_aspect_ratio = aspect
            write(container, stream, pictures, times_ms)
        if codec == "libsvtav1":
            # As root it makes this thread a real-time one, and all that it starts from then on.
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return file.read()
