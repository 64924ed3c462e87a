"""A drawn video that the toy model tracks exactly: a red square moves over a gray floor.

Pictures are uint8 RGB (HEIGHT, WIDTH, 3); number 0 is the reference frame.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Collection, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.palette import write_label_map

HEIGHT, WIDTH = 96, 128
SIDE = 32
FLOOR, SQUARE, OTHER = (128, 128, 128), (220, 40, 40), (40, 40, 220)
FADED = 42


def labels(number: int, *, objects: int = 1) -> NDArray[np.uint8]:
    """Return the true label map (HEIGHT, WIDTH): object 1 moves right, object 2 below it left."""
    found = np.zeros((HEIGHT, WIDTH), np.uint8)
    left = 8 + 2 * number % 64
    found[8 : 8 + SIDE, left : left + SIDE] = 1
    if objects == 2:
        found[56 : 56 + SIDE, WIDTH - left - SIDE : WIDTH - left] = 2
    return found


def picture(number: int, *, objects: int = 1, faded: Collection[int] = ()) -> NDArray[np.uint8]:
    """Return one frame; the toy model has little confidence in objects that are `faded`."""
    colors = np.array([FLOOR, SQUARE, OTHER], np.uint8)
    for object_id in faded:
        colors[object_id] -= np.uint8(FADED) * (colors[object_id] > 128)
    return np.ascontiguousarray(colors[labels(number, objects=objects)])


def jpeg(number: int, *, objects: int = 1) -> bytes:
    """Return one frame as a JPEG."""
    return encode(picture(number, objects=objects), ".jpg")


def png(number: int, *, objects: int = 1) -> bytes:
    """Return one frame as a PNG."""
    return encode(picture(number, objects=objects), ".png")


def mask(*, objects: int = 1) -> bytes:
    """Return the reference frame's mask as a palette PNG."""
    return write_label_map(labels(0, objects=objects))


def encode(rgb: NDArray[np.uint8], suffix: str) -> bytes:
    """Return a picture in the format of the suffix."""
    _, data = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def video(numbers: Sequence[int], *, kind: str = "mp4", ms: Sequence[int] | None = None) -> bytes:
    """Return the frames as a video file: MP4, MOV (both MPEG-4 video) or WebM (VP8).

    They are shown at these milliseconds, or 24 times a second.
    """
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as container:
        stream = container.add_stream("libvpx" if kind == "webm" else "mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate = 4_000_000
        if ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if ms is not None:
                frame.pts, frame.time_base = ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def varied_video(
    steps: Sequence[float], *, kind: str, movflags: str = "faststart"
) -> tuple[bytes, list[float]]:
    """Return a video that browsers play and whose frames stay for these seconds, with their times.

    MP4 and MOV begin with their index and hold H.264 with pictures out of order; WebM has VP8.
    """
    times = [sum(steps[:number]) for number in range(len(steps))]
    options = {} if kind == "webm" else {"movflags": movflags}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"varied.{kind}"
        with av.open(path, "w", options=options) as container:
            stream = container.add_stream("libvpx" if kind == "webm" else "libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            stream.codec_context.time_base = Fraction(1, 1000)
            stream.bit_rate = 4_000_000
            for number, time in enumerate(times):
                frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
                frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path.read_bytes(), times
