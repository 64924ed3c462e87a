"""What it costs a video to be decoded in a process of its own, against this process, in turns.

    python -m loadtests.video [--rounds 30] [--size 180x320]

Twenty H.264 frames, from the bytes of the file to RGB pictures. Between two videos there is a
pause, in which the next child gets ready, as between the appends of a session.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
import time

import av
import numpy as np
from numpy.typing import NDArray

from service.media.video_decoder import VideoDecoder, VideoRequest
from service.media.video_reader import open_video
from service.server.workers import Workers

FRAMES, PAUSE_S = 20, 0.1


def encode_video(height: int, width: int) -> bytes:
    """Return an MP4 of a pattern that moves."""
    file = io.BytesIO()
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (-(-height // 9), -(-width // 8), 3), dtype=np.uint8)
    picture = blocks.repeat(9, axis=0).repeat(8, axis=1)[:height, :width]
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(FRAMES):
            moved = np.ascontiguousarray(np.roll(picture, 2 * number, axis=1))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(moved, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def touch(_: int, pixels: NDArray[np.uint8]) -> int:
    """Read a picture's pixels, as whoever takes it would."""
    return int(pixels[::8, ::8].sum())


def decode_here(data: bytes) -> None:
    """Decode the video in this process."""
    with open_video(io.BytesIO(data)) as reader:
        reader.restrict(max_pixels=10**8)
        for picture in reader.pictures():
            touch(picture.number, np.asarray(picture.rgb().to_ndarray(), np.uint8))


async def compare(data: bytes, size: tuple[int, int], rounds: int) -> tuple[list[float], ...]:
    """Return milliseconds of each video: by a child, and in this process."""
    children, here = list[float](), list[float]()
    decoder = VideoDecoder()
    request = VideoRequest(data, size, size, count=FRAMES)
    with Workers(threads=2) as workers:
        for _ in range(rounds + 1):
            began = time.perf_counter()
            await decoder.decode(request, touch, workers)
            between = time.perf_counter()
            decode_here(data)
            ended = time.perf_counter()
            children.append(1000 * (between - began))
            here.append(1000 * (ended - between))
            await asyncio.sleep(PAUSE_S)
    await decoder.close()
    return children[1:], here[1:]  # the first one starts the process that forks


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--size", default="180x320", help="HxW")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    found = asyncio.run(compare(encode_video(height, width), (height, width), args.rounds))
    child, here = (statistics.median(values) for values in found)
    print(f"{FRAMES} frames of {width}x{height}: {child:.1f} ms by a child, {here:.1f} ms here")
    print(f"a child costs {child - here:.1f} ms, the median of {args.rounds} rounds")


if __name__ == "__main__":
    main()
