"""How a clip looks: colors that drift, blur, noise and compression."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.static import Pixels

_LONGEST_SHAKE = 12  # pixels
_GRAY = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Glare:
    """A bright spot: its center (F, 2) and radius in shares of the side, its height in levels."""

    centers: NDArray[np.float64]
    radius: float
    height: float


@dataclass(frozen=True, slots=True)
class Look:
    """The looks of a clip: a color map (F, 3, 4) a frame, and what a poor camera adds.

    `scale` is the share of its size at which the clip was once kept; `shakes` (F, 2) are the
    camera's own motion in pixels while the shutter is open.
    """

    color: NDArray[np.float64]
    jpeg_quality: int | None = None
    noise: float = 0.0
    softness: float = 0.0
    scale: float = 1.0
    glare: Glare | None = None
    shakes: NDArray[np.float64] | None = None
    traits: tuple[str, ...] = ()


def draw_look(rng: np.random.Generator, *, frames: int, strength: float) -> Look:
    """Draw a look of a strength (0: as recorded, 1: clearly changed), smooth in time."""
    color = draw_color(rng, frames=frames, start=strength, drift=0.4 * strength)
    drawn = rng.random(7) < strength * np.array([0.35, 0.2, 0.25, 0.15, 0.15, 0.15, 0.15])
    names = ("compressed", "noisy", "soft", "small", "glare", "exposure", "shaken")
    traits = tuple(name for name, on in zip(names, drawn, strict=True) if on)
    if "exposure" in traits:
        color = expose(color, draw_exposure(rng, frames=frames))
    return Look(
        color=color,
        jpeg_quality=int(rng.integers(20, 85)) if "compressed" in traits else None,
        noise=float(rng.uniform(2.0, 10.0)) if "noisy" in traits else 0.0,
        softness=float(rng.uniform(0.4, 1.4)) if "soft" in traits else 0.0,
        scale=float(rng.uniform(0.4, 0.8)) if "small" in traits else 1.0,
        glare=_draw_glare(rng, frames=frames) if "glare" in traits else None,
        shakes=_draw_shakes(rng, frames=frames) if "shaken" in traits else None,
        traits=traits,
    )


def draw_exposure(rng: np.random.Generator, *, frames: int) -> NDArray[np.float64]:
    """Return gains (F,), 1 at first, that rise or fall to another light slowly or at once."""
    begin, pace = rng.uniform(0.0, 0.7) * frames, rng.uniform(0.5, 0.6 * frames + 0.5)
    ramp = np.clip((np.arange(frames) - begin) / pace, 0.0, 1.0)
    return np.asarray(np.exp(ramp * rng.uniform(-0.8, 0.4)))


def expose(color: NDArray[np.float64], gains: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the color maps (F, 3, 4) with what they give multiplied by `gains` (F,)."""
    return color * gains[:, None, None]


def _draw_glare(rng: np.random.Generator, *, frames: int) -> Glare:
    """Return a spot of light that drifts over the picture."""
    start, end = rng.uniform(-0.1, 1.1, size=(2, 2))
    way = np.linspace(0.0, rng.uniform(0.2, 1.0), frames)[:, None]
    return Glare(start + way * (end - start), rng.uniform(0.08, 0.5), rng.uniform(60.0, 220.0))


def _draw_shakes(rng: np.random.Generator, *, frames: int) -> NDArray[np.float64]:
    """Return how the camera shakes in some frames, (F, 2); not in the first."""
    shakes = rng.normal(0.0, 5.0, size=(frames, 2)) * (rng.random((frames, 1)) < 0.5)
    shakes[0] = 0.0
    return np.asarray(shakes)


def draw_color(
    rng: np.random.Generator, *, frames: int, start: float, drift: float
) -> NDArray[np.float64]:
    """Return maps (F, 3, 4) from RGB to RGB, beginning `start` away from none and drifting on."""
    begin, end = rng.normal(0.0, start, size=6), rng.normal(0.0, drift, size=6)
    moments = np.linspace(0.0, 1.0, frames)
    return np.stack([_color_map(begin + moment * end) for moment in moments])


def _color_map(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return brightness, contrast, saturation and a tint a channel, as one affine map (3, 4)."""
    brightness, contrast, saturation, *tint = np.clip(amount, -2.5, 2.5)
    saturated = np.exp(0.3 * saturation)
    matrix = saturated * np.eye(3) + (1.0 - saturated) * _GRAY[None, :]
    gain = np.exp(0.16 * contrast) * np.exp(0.06 * np.array(tint))
    matrix = gain[:, None] * matrix
    offset = 20.0 * brightness + 110.0 * (1.0 - gain)
    return np.concatenate([matrix, offset[:, None]], axis=1)


def recolor(image: Pixels, color: NDArray[np.float64]) -> Pixels:
    """Return `image` through the color map (3, 4), clipped to 0..255."""
    return np.asarray(cv2.transform(image, color), dtype=np.uint8)


def finish(image: Pixels, look: Look, moment: int, rng: np.random.Generator) -> Pixels:
    """Return frame `moment` of a clip with its look: color, light, softness, noise, compression."""
    image = recolor(image, look.color[moment])
    if look.glare is not None:
        image = shine(image, look.glare, moment)
    if look.shakes is not None:
        kernel = motion_kernel(look.shakes[moment], longest=_LONGEST_SHAKE)
        image = image if kernel is None else np.asarray(cv2.filter2D(image, -1, kernel), np.uint8)
    if look.scale < 1.0:
        image = shrink_and_grow(image, look.scale)
    if look.softness:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), look.softness), dtype=np.uint8)
    if look.noise:
        image = add_noise(image, look.noise, rng)
    if look.jpeg_quality is not None:
        image = compress(image, look.jpeg_quality)
    return image


def shine(image: Pixels, glare: Glare, moment: int) -> Pixels:
    """Return `image` with the spot of light of frame `moment`, clipped to 255."""
    height, width = image.shape[:2]
    x, y = glare.centers[moment]
    across = np.exp(-((np.arange(width) / width - x) ** 2) / (2 * glare.radius**2))
    down = np.exp(-((np.arange(height) / height - y) ** 2) / (2 * glare.radius**2))
    light = (glare.height * down[:, None] * across).astype(np.uint8)
    return np.asarray(cv2.add(image, cv2.merge([light, light, light])), dtype=np.uint8)


def shrink_and_grow(image: Pixels, scale: float) -> Pixels:
    """Return `image` as it looks when it was kept at `scale` of its size."""
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height)), dtype=np.uint8)


def add_noise(image: Pixels, deviation: float, rng: np.random.Generator) -> Pixels:
    """Return `image` with gray noise of the given standard deviation, in gray levels.

    Its values are those of two dice of 256 sides: nearly Gaussian, and soon drawn.
    """
    one, other = rng.integers(0, 256, size=(2, *image.shape[:2]), dtype=np.uint8)
    gray = np.asarray(cv2.addWeighted(one, 1.0, other, 1.0, -255.0, dtype=cv2.CV_32F))
    gray *= deviation / (256 / np.sqrt(6.0))
    noise = cv2.merge([gray, gray, gray])
    return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), dtype=np.uint8)


def darken(frames: Pixels, rng: np.random.Generator) -> Pixels:
    """Return frames (F, H, W, 3) at 10 to 40 % of their brightness with a sensor's noise."""
    gain, deviation = rng.uniform(0.1, 0.4), rng.uniform(1.0, 7.0)
    dim = cv2.convertScaleAbs(frames.reshape(len(frames), -1), alpha=gain).reshape(frames.shape)
    return np.stack([add_noise(image, deviation, rng) for image in np.asarray(dim, np.uint8)])


def compress(image: Pixels, quality: int) -> Pixels:
    """Return `image` after a round trip through JPEG (the swapped channels change little)."""
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)


def motion_kernel(shift: NDArray[np.float64], *, longest: int) -> NDArray[np.float32] | None:
    """Return a line kernel along `shift` (x, y in pixels), or None where it would not blur."""
    length = float(min(np.hypot(*shift), longest))
    if length < 2.0:
        return None
    side = 2 * int(np.ceil(length / 2)) + 1
    kernel = np.zeros((side, side), np.float32)
    direction = shift / np.hypot(*shift) * length / 2
    center = side // 2
    ends = [tuple(int(v) for v in np.rint(center + sign * direction)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return kernel / kernel.sum()
