"""Real training videos made hard to follow: small, blurred, dim, noisy, with frames left out.

A model knows its training videos too well to fail on them; on these it does at times, in ways
that it also does on new videos. Every third is left as it is. F frames of H x W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.static import Pixels, read_rgb
from model.data.video import Video, read_mask

FRAMES = 30
LEAST_PIXELS = 150  # of the object in the first frame
_TRIES = 50


@dataclass(frozen=True, slots=True)
class Hardship:
    """What is done to the pictures of one clip."""

    zoom: float  # of the scene, at most 1; the border is mirrored
    blur: float  # sigma in pixels
    contrast: float
    light: float  # of 255, added
    noise: float  # deviation, of 255
    quality: int  # JPEG


def draw_hardship(rng: np.random.Generator, *, most: float) -> Hardship:
    """Return something between nothing and `most` (0 to 1) of everything."""
    level = most * rng.random(5) ** 1.5
    return Hardship(
        zoom=float(np.exp(-1.1 * level[0])),
        blur=float(2.5 * level[1]),
        contrast=float(1 - 0.7 * level[2]),
        light=float(rng.normal(0.0, 30.0) * level[2]),
        noise=float(18.0 * level[3]),
        quality=round(90 - 65 * level[4]),
    )


def draw_degraded(
    videos: Sequence[Video], rng: np.random.Generator, *, size: tuple[int, int], most: float
) -> tuple[str, list[bytes], Pixels]:
    """Return the name of a video, encoded frames of it, and its masks (F, H, W) of 0 and 1."""
    for _ in range(_TRIES):
        video = videos[int(rng.integers(len(videos)))]
        step = int(rng.integers(1, 6))
        span = min(len(video.frames), FRAMES * step)
        start = int(rng.integers(len(video.frames) - span + 1))
        chosen = range(start, start + span, step)
        hardship = draw_hardship(rng, most=most)
        masks = np.stack([shrink(read_mask(video.masks[i]), hardship, size) for i in chosen])
        if np.count_nonzero(masks[0]) >= LEAST_PIXELS:
            break
    images = [
        degrade(shrink(read_rgb(video.frames[index]), hardship, size), hardship, rng)
        for index in chosen
    ]
    return video.name, images, masks


def shrink(pixels: Pixels, hardship: Hardship, size: tuple[int, int]) -> Pixels:
    """Return a picture at `size`, the scene in its middle made smaller; a mask has no border."""
    height, width = size
    fit = np.array([width / pixels.shape[1], height / pixels.shape[0]])
    scale = fit * hardship.zoom
    matrix = np.zeros((2, 3))
    matrix[0, 0], matrix[1, 1] = scale
    matrix[:, 2] = (np.array([width, height]) - scale * pixels.shape[1::-1]) / 2
    color = pixels.ndim == 3
    warped = cv2.warpAffine(
        pixels,
        matrix,
        (width, height),
        flags=cv2.INTER_AREA if color else cv2.INTER_NEAREST,
        borderMode=cv2.BORDER_REFLECT_101 if color else cv2.BORDER_CONSTANT,
    )
    return np.asarray(warped, np.uint8)


def degrade(image: Pixels, hardship: Hardship, rng: np.random.Generator) -> bytes:
    """Return a picture (H, W, 3) as a JPEG after its hardship."""
    seen: NDArray[np.float32] = image.astype(np.float32)
    if hardship.blur > 0.3:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), hardship.blur), np.float32)
    seen = (seen - 128) * hardship.contrast + 128 + hardship.light
    if hardship.noise > 0.5:
        seen = seen + rng.normal(0.0, hardship.noise, seen.shape).astype(np.float32)
    bgr = cv2.cvtColor(np.clip(np.rint(seen), 0, 255).astype(np.uint8), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, hardship.quality])[1].tobytes()


def make_degraded_videos(
    videos: Sequence[Video], *, seed: int, count: int, size: tuple[int, int]
) -> Iterator[tuple[str, list[bytes], Pixels]]:
    """Yield `count` clips, a function of the seed."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        most = 0.0 if number % 3 == 2 else 1.0
        name, images, masks = draw_degraded(videos, rng, size=size, most=most)
        yield f"{seed}-{number:03d}-{name}", images, masks
