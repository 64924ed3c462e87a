"""Surfaces of rendered things: made of noise, or cut out of photographs.

S is the side of a texture in pixels; it is uint8 (S, S, 3) RGB and may be repeated.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.static import Pixels

SIDE = 256
Heights = NDArray[np.float32]


def draw_noise(rng: np.random.Generator, *, cells: int, octaves: int = 5) -> Heights:
    """Return noise (S, S) from 0 to 1: `cells` bumps along the side, and finer ones over them."""
    total = np.zeros((SIDE, SIDE), np.float32)
    for octave in range(octaves):
        count = min(SIDE, cells * 2**octave)
        grid = rng.random((count, count), dtype=np.float32)
        # Wrapped around, so that the texture can be repeated without a seam.
        wrapped = np.pad(grid, 2, mode="wrap")
        step = SIDE / count
        ends = slice(round(2 * step), round(2 * step) + SIDE)
        side = round((count + 4) * step)
        large = cv2.resize(wrapped, (side, side), interpolation=cv2.INTER_CUBIC)
        total += np.asarray(large, np.float32)[ends, ends] * np.float32(0.5**octave)
    low, high = float(total.min()), float(total.max())
    return (total - low) / np.float32(high - low)


def draw_colors(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """Return colors (count, 3) from 0 to 255 that go together, most of them muted."""
    hue = rng.random() + rng.normal(0.0, rng.choice([0.03, 0.25]), size=count)
    saturation = np.clip(rng.beta(1.6, 2.4) + rng.normal(0.0, 0.15, size=count), 0.0, 1.0)
    value = np.clip(rng.uniform(0.25, 0.9) + rng.normal(0.0, 0.25, size=count), 0.08, 1.0)
    hsv = np.stack([hue % 1.0 * 360.0, saturation, value], -1).astype(np.float32)
    rgb = cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]
    return np.asarray(rgb * 255.0, np.float32)


def color(heights: Heights, colors: NDArray[np.float32]) -> Pixels:
    """Return heights (S, S) from 0 to 1 in colors (K, 3) that blend into each other."""
    knots = np.linspace(0.0, 1.0, len(colors))
    channels = [np.interp(heights, knots, channel) for channel in colors.T]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def _marble(rng: np.random.Generator) -> Heights:
    return draw_noise(rng, cells=int(rng.integers(2, 9)))


def _stripes(rng: np.random.Generator) -> Heights:
    """Return bands, straight or warped by noise, soft or hard."""
    waves = rng.integers(-8, 9, size=2)
    waves[int(rng.integers(2))] += 3
    x, y = np.meshgrid(np.arange(SIDE) / SIDE, np.arange(SIDE) / SIDE)
    warp = rng.choice([0.0, 0.4, 1.5]) * draw_noise(rng, cells=3)
    bands = np.sin(2 * np.pi * (waves[0] * x + waves[1] * y + warp))
    return np.asarray(np.clip(0.5 + rng.choice([0.5, 4.0]) * bands, 0.0, 1.0), np.float32)


def _checks(rng: np.random.Generator) -> Heights:
    count = 2 * int(rng.integers(1, 7))
    x, y = np.meshgrid(np.arange(SIDE) * count // SIDE, np.arange(SIDE) * count // SIDE)
    return np.asarray((x + y) % 2, np.float32)


def _spots(rng: np.random.Generator) -> Heights:
    """Return islands, as on a cow or a leopard."""
    noise = draw_noise(rng, cells=int(rng.integers(3, 14)), octaves=2)
    return np.asarray(np.clip((noise - rng.uniform(0.4, 0.65)) * 12.0 + 0.5, 0.0, 1.0), np.float32)


def _patches(rng: np.random.Generator) -> Heights:
    """Return cells of one shade each, as of stones or fields."""
    count = int(rng.integers(6, 60))
    seeds = np.full((SIDE, SIDE), 255, np.uint8)
    seeds[tuple(rng.integers(0, SIDE, size=(2, count)))] = 0
    _, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3)
    shades = rng.random(int(labels.max()) + 1).astype(np.float32)
    return np.asarray(shades[labels], np.float32)


_PATTERNS: tuple[Callable[[np.random.Generator], Heights], ...] = (
    _marble,
    _marble,
    _stripes,
    _checks,
    _spots,
    _patches,
)


def draw_texture(rng: np.random.Generator) -> Pixels:
    """Return a texture of noise: one pattern in two to five colors, with a grain over it."""
    pattern = _PATTERNS[int(rng.integers(len(_PATTERNS)))](rng)
    colors = draw_colors(rng, int(rng.integers(2, 6)))
    if rng.random() < 0.2:  # nearly of one color, as many things are
        colors = colors[:1] + rng.normal(0.0, 8.0, size=colors.shape).astype(np.float32)
    grain = draw_noise(rng, cells=32, octaves=3)[..., None] - 0.5
    image = color(pattern, np.clip(colors, 0, 255)) + rng.choice([10.0, 30.0, 70.0]) * grain
    return np.clip(image, 0, 255).astype(np.uint8)


def crop_texture(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Return a square of a photograph (H, W, 3), a third to all of its short side."""
    height, width = image.shape[:2]
    side = max(2, round(min(height, width) * rng.uniform(0.35, 1.0)))
    top, left = rng.integers(0, (height - side + 1, width - side + 1))
    part = image[top : top + side, left : left + side]
    return np.asarray(cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
