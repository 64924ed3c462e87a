"""Samples of prompts: a view of a still picture with one object in it, and what is pointed at.

The stills are split by picture: some of each set are held out, and never trained on. A picture that
two sets share is held out of both. S is a view's side.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import darken, draw_look, finish
from model.data.errors import DataError
from model.data.pasted_views import SHAPES, Cutting, draw_backdrop, draw_shape, paste
from model.data.static import (
    SET_WEIGHTS,
    Pixels,
    Still,
    StillPaths,
    list_stills,
    pick_instance,
    read_still,
)

HELD_OUT = 200  # pictures, of all sets together
FEWEST = 5  # of a set
SMALLEST_VIEW = 48  # pixels of the picture that a view shows, on its short side
LEAST_SHARE, MOST_SHARE = 0.004, 0.75  # of a view: an object in it
# How often only one part of a mask is meant: those of salient things hold several, and a click on
# one of two dogs means that one.
ONE_PART = 0.75
FAIR_PART = 0.1  # of a mask: smaller parts are specks of it


@dataclass(frozen=True, slots=True)
class Split:
    """The stills of all sets: those to train on, and those held out, by set."""

    training: Mapping[str, Sequence[StillPaths]]
    held_out: Mapping[str, Sequence[StillPaths]]


def split_stills(data: Path, sets: Sequence[str] = tuple(SET_WEIGHTS)) -> Split:
    """Return the split of the shared stills, which is the same everywhere and at all times.

    Each set gives its share of HELD_OUT, and at least FEWEST, but never more than a third: those
    whose names' digests are smallest. Raise DataError for a set that is not there.
    """
    stills = {name: list_stills(data / "static" / name) for name in sets}
    total = sum(len(each) for each in stills.values())
    held, kept = {}, {}
    for name, each in stills.items():
        count = min(max(FEWEST, round(HELD_OUT * len(each) / total)), len(each) // 3)
        drawn = sorted(each, key=lambda still: digest_name(name, still))
        held[name], kept[name] = tuple(drawn[:count]), drawn[count:]
    seen = {digest_picture(still.image) for each in held.values() for still in each}
    training = {
        name: tuple(still for still in each if digest_picture(still.image) not in seen)
        for name, each in kept.items()
    }
    return Split(training, held)


def digest_name(name: str, still: StillPaths) -> bytes:
    """Return what the order of a set's pictures is drawn by."""
    return hashlib.sha256(f"{name}/{still.image.stem}".encode()).digest()


def digest_picture(path: Path) -> bytes:
    """Return 64 bits of what a picture shows, equal for copies of other size or compression."""
    gray = cv2.imread(str(path), cv2.IMREAD_REDUCED_GRAYSCALE_4)
    if gray is None:
        raise DataError(f"cannot read the picture {path}")
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA)
    return np.packbits(small[:, 1:] > small[:, :-1]).tobytes()


@dataclass(frozen=True, slots=True)
class PromptView:
    """What a sample begins with: image uint8 (S, S, 3), target uint8 {0, 1} (S, S)."""

    image: Pixels
    target: Pixels
    source: str


@dataclass(frozen=True, slots=True)
class PromptViews:
    """Draws views of stills, by the weight of their sets; `strength` is that of their looks.

    A share of them, `pasted`, shows things where they never stood.
    """

    stills: Mapping[str, Sequence[StillPaths]]
    side: int
    strength: float = 0.6
    pasted: float = 0.25
    weights: Mapping[str, float] = field(default_factory=lambda: SET_WEIGHTS)

    def draw(self, rng: np.random.Generator) -> PromptView:
        """Return the next view, now and then a pasted one."""
        while True:
            view = self.draw_pasted(rng) if rng.random() < self.pasted else self.draw_still(rng)
            if LEAST_SHARE < view.target.mean() < MOST_SHARE:
                return PromptView(self.change_look(view.image, rng), view.target, view.source)

    def draw_still(self, rng: np.random.Generator) -> PromptView:
        """Return a view of a still as it is."""
        still, mask, source = self.pick(rng)
        image, target = self.cut(still.image, mask, draw_window(mask, rng), rng)
        return PromptView(image, target, source)

    def draw_pasted(self, rng: np.random.Generator) -> PromptView:
        """Return a view of a thing that is pasted over a part of another still, or of two.

        Only the last one is the target.
        """
        behind, _, _ = self.pick(rng)
        image = draw_backdrop(behind.image, rng, side=self.side)
        for _ in range(int(rng.integers(1, 3))):
            still, mask, source = self.pick(rng)
            drawn = rng.random() < SHAPES
            cutting = draw_shape(still.image, rng) if drawn else Cutting(still.image, mask)
            image, target = paste(image, cutting, rng)
        return PromptView(image, target, f"pasted {source}")

    def pick(self, rng: np.random.Generator) -> tuple[Still, Pixels, str]:
        """Return a still, one of its objects, uint8 {0, 1} (H, W), and where it is from."""
        names = [name for name, stills in self.stills.items() if stills]
        shares = np.array([self.weights[name] for name in names])
        while True:
            name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
            paths = self.stills[name][int(rng.integers(len(self.stills[name])))]
            still = read_still(paths)
            picked = pick_instance(still, rng, min_share=0.002)
            if picked is not None:
                mask = picked.mask
                if rng.random() < ONE_PART:
                    mask = pick_part(mask, rng)
                return still, mask, f"{name}/{paths.image.stem}"

    def cut(
        self, image: Pixels, mask: Pixels, window: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[Pixels, Pixels]:
        """Return a window [left, top, right, bottom] of a picture and a mask at S x S, or mirrored.

        Now and then it is turned a little.
        """
        left, top, right, bottom = window
        corners = np.array([[left, top], [right, top], [left, bottom]]) - 0.5
        if rng.random() < 0.2:
            angle, middle = rng.uniform(-0.35, 0.35), corners[1:].mean(axis=0)
            turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
            corners = (corners - middle) @ turn.T + middle
        ends = np.array([[0, 0], [self.side, 0], [0, self.side]]) - 0.5
        if rng.random() < 0.5:
            ends = np.array([[self.side, 0], [0, 0], [self.side, self.side]]) - 0.5
        matrix = cv2.getAffineTransform(corners.astype(np.float32), ends.astype(np.float32))
        size = (self.side, self.side)
        shrinks = max(right - left, bottom - top) > 1.3 * self.side
        seen = cv2.warpAffine(
            image,
            matrix,
            size,
            flags=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        target = cv2.warpAffine(mask * 255, matrix, size, flags=cv2.INTER_LINEAR)
        return np.asarray(seen, np.uint8), (target > 127).astype(np.uint8)

    def change_look(self, image: Pixels, rng: np.random.Generator) -> Pixels:
        """Return a picture in another light, or as a poor camera would have taken it."""
        kind = rng.random()
        if kind < 0.08:
            return np.asarray(darken(image[None], rng)[0], np.uint8)
        look = draw_look(rng, frames=1, strength=self.strength)
        return finish(image, look, 0, rng)


def pick_part(mask: Pixels, rng: np.random.Generator | None = None) -> Pixels:
    """Return one of the parts of a mask that are a fair share of it; without `rng` the largest.

    A mask without several such parts is returned as it is.
    """
    _, parts, statistics, _ = cv2.connectedComponentsWithStats(mask)
    areas = statistics[1:, cv2.CC_STAT_AREA]
    fair = np.flatnonzero(areas >= FAIR_PART * areas.sum())
    if len(fair) < 2:
        return mask
    chosen = areas.argmax() if rng is None else rng.choice(fair)
    return (parts == chosen + 1).astype(np.uint8)


def draw_window(mask: Pixels, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return what part of a picture a view shows, [left, top, right, bottom] in pixels.

    Half of them show most of the picture, the others the object with some of what is around it.
    """
    height, width = mask.shape
    if rng.random() < 0.5:
        share = rng.uniform(0.75, 1.0)
        spans = np.array([width, height]) * share
        middle = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * (1 - share) * [
            width,
            height,
        ]
    else:
        x, y, across, down = cv2.boundingRect(mask)
        stretch = np.exp(rng.uniform(-0.25, 0.25))
        side = max(across, down) * np.exp(rng.uniform(np.log(1.1), np.log(3.0)))
        spans = np.maximum(side * np.array([stretch, 1 / stretch]), SMALLEST_VIEW)
        spans = np.minimum(spans, [width, height])
        loose = np.maximum(spans - [across, down], 0.15 * np.array([across, down]))
        middle = np.array([x + across / 2, y + down / 2]) + rng.uniform(-0.5, 0.5, 2) * loose
    middle = np.clip(middle, spans / 2, np.array([width, height]) - spans / 2)
    return np.asarray(np.concatenate([middle - spans / 2, middle + spans / 2]), np.float64)
