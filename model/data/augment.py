"""How a clip looks: colours that drift, blur, noise and compression."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.static import Pixels

_GRAY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Look:
    """The looks of a clip: a colour map (F, 3, 4) a frame, and what a poor camera adds."""

    colour: NDArray[np.float64]
    jpeg_quality: int | None
    noise: float
    softness: float


def draw_look(rng: np.random.Generator, *, frames: int, strength: float) -> Look:
    """A look of the given strength (0 = as recorded, 1 = clearly changed), smooth in time."""
    return Look(
        colour=draw_colour(rng, frames=frames, start=strength, drift=0.4 * strength),
        jpeg_quality=int(rng.integers(25, 85)) if rng.random() < 0.35 * strength else None,
        noise=float(rng.uniform(2.0, 10.0)) if rng.random() < 0.2 * strength else 0.0,
        softness=float(rng.uniform(0.4, 1.4)) if rng.random() < 0.25 * strength else 0.0,
    )


def draw_colour(
    rng: np.random.Generator, *, frames: int, start: float, drift: float
) -> NDArray[np.float64]:
    """Maps (F, 3, 4) from RGB to RGB, beginning `start` away from none and drifting on."""
    begin, end = rng.normal(0.0, start, size=6), rng.normal(0.0, drift, size=6)
    moments = np.linspace(0.0, 1.0, frames)
    return np.stack([_colour_map(begin + moment * end) for moment in moments])


def _colour_map(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Brightness, contrast, saturation and a tint a channel, as one affine map (3, 4)."""
    brightness, contrast, saturation, *tint = np.clip(amount, -2.5, 2.5)
    saturated = np.exp(0.3 * saturation)
    matrix = saturated * np.eye(3) + (1.0 - saturated) * _GRAY[None, :]
    gain = np.exp(0.16 * contrast) * np.exp(0.06 * np.array(tint))
    matrix = gain[:, None] * matrix
    offset = 20.0 * brightness + 110.0 * (1.0 - gain)
    return np.concatenate([matrix, offset[:, None]], axis=1)


def recolour(image: Pixels, colour: NDArray[np.float64]) -> Pixels:
    """`image` through the colour map (3, 4), clipped to 0..255."""
    return np.asarray(cv2.transform(image, colour), dtype=np.uint8)


def finish(image: Pixels, look: Look, moment: int, rng: np.random.Generator) -> Pixels:
    """Frame `moment` of a clip with its look: colour, softness, noise, compression."""
    image = recolour(image, look.colour[moment])
    if look.softness:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), look.softness), dtype=np.uint8)
    if look.noise:
        image = add_noise(image, look.noise, rng)
    if look.jpeg_quality is not None:
        image = compress(image, look.jpeg_quality)
    return image


def add_noise(image: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """`image` with gray Gaussian noise of the given standard deviation, in gray levels."""
    noise = rng.standard_normal(image.shape[:2], dtype=np.float32) * deviation
    return np.clip(image + noise[..., None], 0, 255).astype(np.uint8)


def compress(image: Pixels, quality: int) -> Pixels:
    """`image` after a round trip through JPEG (the swapped channels change little)."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def motion_kernel(shift: NDArray[np.float64], *, longest: int) -> NDArray[np.float32] | None:
    """A line kernel along `shift` (x, y in pixels), or None where it would not blur."""
    length = float(min(np.hypot(*shift), longest))
    if length < 2.0:
        return None
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    direction = shift / np.hypot(*shift) * length / 2
    centre = side // 2
    ends = [tuple(int(v) for v in np.rint(centre + sign * direction)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return kernel / kernel.sum()
