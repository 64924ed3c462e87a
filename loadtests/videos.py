"""Videos to put load on a service with: the built-in sample, or a real one below TAMVT_DATA."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from loadtests.load_video import LoadVideo
from service.commands.bench_service import scale_sample, scale_video
from service.media.sample import SampleVideo, find_sample_video
from tamvt_client import TimedImage

SIZE = (256, 448)  # height, width
FRAMES = 60  # of a real video: all are kept in memory


def data_folder() -> Path:
    """Return where real videos are looked for."""
    return Path(os.environ.get("TAMVT_DATA") or "data")


def sample_video(*, objects: int = 1, size: tuple[int, int] = SIZE) -> LoadVideo:
    """Return the built-in sample as JPEGs; its object is cut into as many upright strips."""
    frames, mask = scale_sample(size, objects=objects)
    return LoadVideo(frames, mask, f"sample-{size[0]}x{size[1]}", objects)


def real_video(data: Path, *, objects: int = 1, size: tuple[int, int] = SIZE) -> LoadVideo:
    """Return the preferred video below `data` at this size, else the built-in sample."""
    found = find_sample_video(data, name=None)
    if found is None:
        return sample_video(objects=objects, size=size)
    frames, mask = scale_video(_read_pictures(found), size, objects=objects)
    return LoadVideo(frames, mask, f"{found.name}-{size[0]}x{size[1]}", objects)


def _read_pictures(video: SampleVideo) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    labels = np.asarray(np.asarray(Image.open(video.mask)) > 0, np.uint8)
    for path in islice(sorted(video.video.glob("*.jpg")), FRAMES):
        yield np.asarray(Image.open(path).convert("RGB"), np.uint8), labels


async def play(video: LoadVideo, count: int, *, fps: float) -> AsyncIterator[TimedImage]:
    """Yield so many frames as a camera does, each with the time at which it is taken."""
    begin = time.perf_counter()
    for number, image in enumerate(islice(video.endless(), count)):
        await asyncio.sleep(max(0.0, begin + number / fps - time.perf_counter()))
        yield TimedImage(image, round(1e6 * time.perf_counter()))
