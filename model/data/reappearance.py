"""Made-up videos in which an object leaves, or is covered, for a while and comes back.

A cut-out of a still picture moves over a real video, or over another still picture. All is a
function of the seed and the number of the clip. F frames of H x W pixels.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.degradation import degrade, draw_hardship
from model.data.errors import DataError
from model.data.layers import soften
from model.data.static import Pixels, StillPaths, list_stills, pick_object, read_rgb, read_still
from model.data.video import Video, open_video, training_names

DataHalf = Literal[0, 1]  # of the pictures and videos: one to fit with, the other to measure with
Kind = Literal["leaves", "covered"]

KINDS: tuple[Kind, ...] = ("leaves", "covered")
SIZE = (256, 448)
FRAMES = (40, 60)  # least and most
BEFORE = (12, 20)
AWAY = (5, 20)
MOVING = 5  # frames of going out of sight, and of coming back
EXTENT = (0.15, 0.45)  # of the object, as a share of the short side
LEAST_SHARE = 0.003  # of the first frame, that the object takes
_FULL = 128  # alpha from which a pixel belongs to the object
_TRIES = 50

Positions = NDArray[np.float64]  # (F, 2) centers (x, y)


@dataclass(frozen=True, slots=True)
class ReappearanceSources:
    """One half of what clips are made of."""

    stills: tuple[StillPaths, ...]
    videos: tuple[Video, ...]


@dataclass(frozen=True, slots=True)
class ReappearanceVideo:
    """Encoded frames, the object's true masks (F, H, W) of 0 and 1, and when it is away."""

    name: str
    kind: Kind
    images: tuple[bytes, ...]
    masks: Pixels

    @property
    def away(self) -> NDArray[np.bool_]:
        """Return (F,): the frames in which nothing of the object is seen."""
        return np.logical_not(self.masks.any(axis=(1, 2)))


@dataclass(frozen=True, slots=True)
class Item:
    """An object alone: its picture and alpha (h, w), cut to its box."""

    image: Pixels
    alpha: Pixels


def open_sources(half: DataHalf, root: Path | None = None) -> ReappearanceSources:
    """Return every other picture and training video of `root` (TAMVT_DATA).

    Raise DataError if there is none.
    """
    root = root or Path(os.environ.get("TAMVT_DATA", "data"))
    folders = sorted(path for path in (root / "static").glob("*") if path.is_dir())
    stills = [still for folder in folders for still in list_stills(folder)]
    names = training_names(root / "video", None)
    videos = tuple(open_video(root / "video", name) for name in names[half::2])
    if len(stills) < 2:
        raise DataError(f"there are no still pictures in {root / 'static'}")
    return ReappearanceSources(tuple(stills[half::2]), videos)


def make_reappearances(
    sources: ReappearanceSources, *, seed: int, count: int
) -> Iterator[ReappearanceVideo]:
    """Yield `count` clips, the two kinds in turn."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        yield make_reappearance(sources, rng, kind=KINDS[number % 2], name=f"{seed}-{number:03d}")


def make_reappearance(
    sources: ReappearanceSources, rng: np.random.Generator, *, kind: Kind, name: str
) -> ReappearanceVideo:
    """Return one clip; raise DataError where no fitting object is found in many tries."""
    for _ in range(_TRIES):
        found = _tried(sources, rng, kind=kind)
        if found is not None:
            images, masks = found
            hardship = draw_hardship(rng, most=0.6)
            encoded = tuple(degrade(image, hardship, rng) for image in images)
            return ReappearanceVideo(name, kind, encoded, masks)
    raise DataError("no still picture has an object that a clip can be made of")


def _tried(
    sources: ReappearanceSources, rng: np.random.Generator, *, kind: Kind
) -> tuple[list[Pixels], Pixels] | None:
    """Return frames and masks.

    None where the picture has no fitting object, or it is not hidden long.
    """
    frames = int(rng.integers(FRAMES[0], FRAMES[1] + 1))
    gone = int(rng.integers(*BEFORE, endpoint=True)) + MOVING
    back = gone + int(rng.integers(*AWAY, endpoint=True))
    target = draw_item(sources, rng)
    if target is None:
        return None
    item = size_item(target, rng, share=rng.uniform(*EXTENT))
    places, panel = _draw_moves(item, rng, kind=kind, frames=frames, gone=gone, back=back)
    cover = _draw_panel(sources, rng, item) if panel is not None else None
    turns = draw_curve(rng, frames, reach=0.15)
    scales = np.exp(draw_curve(rng, frames, reach=0.1))
    images, masks = [], []
    for moment, image in enumerate(draw_backdrop_frames(sources, rng, frames=frames)):
        image, mask = paste(image, item, places[moment], turns[moment], scales[moment])
        if cover is not None and panel is not None:
            image, hidden = paste(image, cover, panel[moment], 0.0, 1.0)
            mask = mask & ~hidden
        images.append(image)
        masks.append(mask.astype(np.uint8))
    truth = np.stack(masks)
    seen = np.asarray(truth.any(axis=(1, 2)))
    fits = truth[0].mean() >= LEAST_SHARE and seen[-1] and np.count_nonzero(~seen) >= AWAY[0]
    return (images, truth) if fits else None


def draw_item(sources: ReappearanceSources, rng: np.random.Generator) -> Item | None:
    """Return an object that the border of its picture does not cut, or None."""
    still = read_still(sources.stills[int(rng.integers(len(sources.stills)))])
    mask = pick_object(still.labels, rng, min_share=0.01)
    if mask is None or any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])):
        return None
    x, y, width, height = cv2.boundingRect(mask)
    box = np.s_[y : y + height, x : x + width]
    return Item(still.image[box], soften(mask)[box])


def size_item(item: Item, rng: np.random.Generator, *, share: float) -> Item:
    """Return the object with an extent of so much of the short side, mirrored half of the time."""
    height, width = item.alpha.shape
    zoom = share * SIZE[0] / np.sqrt(height * width)
    size = (max(2, round(width * zoom)), max(2, round(height * zoom)))
    step = -1 if rng.random() < 0.5 else 1
    image, alpha = (
        cv2.resize(part, size, interpolation=cv2.INTER_AREA)[:, ::step]
        for part in (item.image, item.alpha)
    )
    return Item(np.ascontiguousarray(image, np.uint8), np.ascontiguousarray(alpha, np.uint8))


def _draw_panel(sources: ReappearanceSources, rng: np.random.Generator, item: Item) -> Item:
    """Return a part of a picture that covers the object wherever it turns."""
    side = 1.5 * float(np.hypot(*item.alpha.shape))
    image = read_rgb(sources.stills[int(rng.integers(len(sources.stills)))].image)
    height = max(2, round(side * rng.uniform(1.0, 1.4)))
    image = np.asarray(cv2.resize(image, (max(2, round(side)), height)), np.uint8)
    return Item(image, np.full(image.shape[:2], 255, np.uint8))


def _draw_moves(
    item: Item, rng: np.random.Generator, *, kind: Kind, frames: int, gone: int, back: int
) -> tuple[Positions, Positions | None]:
    """Draw places of the object and of its cover, so that it is unseen from `gone` to `back`."""
    height, width = SIZE
    reach = 0.75 * float(np.hypot(*item.alpha.shape))
    drift = np.stack([draw_curve(rng, frames, reach=0.12 * width) for _ in range(2)], axis=1)
    here = rng.uniform(0.3, 0.7, size=2) * (width, height)
    there = here + rng.normal(0.0, 0.12, size=2) * (width, height)
    side = float(rng.choice([-1.0, 1.0]))
    margin = 2.2 * reach if kind == "covered" else reach
    edge = width + margin if side > 0 else -margin
    across = kind == "leaves" and rng.random() < 0.3  # it comes back on the other side
    returning = width - edge if across else edge
    out, inside = np.array([edge, here[1]]), np.array([returning, there[1]])
    moments = np.arange(frames, dtype=np.float64)
    going = np.clip((moments - (gone - MOVING)) / MOVING, 0.0, 1.0)
    coming = np.clip((back - 1 + MOVING - moments) / MOVING, 0.0, 1.0)
    hidden = np.minimum(going, coming)  # (F,) 0: in sight, 1: out of sight
    late = np.arange(frames) >= (gone + back) // 2
    rest = np.where(late[:, None], there, here) + drift
    if kind == "leaves":
        far = np.where(late[:, None], inside, out)
        return rest + (far - rest) * hidden[:, None], None
    places = here + (there - here) * np.clip((np.arange(frames) - gone) / 12, 0, 1)[:, None] + drift
    return places, out + (places - out) * hidden[:, None]


def draw_curve(rng: np.random.Generator, frames: int, *, reach: float) -> NDArray[np.float64]:
    """Return (F,) a slow curve about 0, 0 at first, that goes about as far as `reach`."""
    period, phase = rng.uniform(25.0, 80.0), rng.uniform(0.0, 2 * np.pi)
    turn = 2 * np.pi * np.arange(frames) / period + phase
    return np.asarray(0.5 * reach * rng.uniform(0.2, 1.0) * (np.sin(turn) - np.sin(phase)))


def draw_backdrop_frames(
    sources: ReappearanceSources, rng: np.random.Generator, *, frames: int
) -> Sequence[Pixels]:
    """Return F pictures of the clip's size: a training video, or a still that is panned over."""
    size = SIZE[::-1]
    if sources.videos and rng.random() < 0.6:
        video = sources.videos[int(rng.integers(len(sources.videos)))]
        count = len(video.frames)
        start = int(rng.integers(max(1, count - frames + 1)))
        order = [start + moment for moment in range(frames)]
        forth = [index % (2 * count - 2) for index in order]  # a short one is played forth and back
        paths = [video.frames[min(index, 2 * count - 2 - index)] for index in forth]
        return [np.asarray(cv2.resize(read_rgb(path), size), np.uint8) for path in paths]
    image = read_rgb(sources.stills[int(rng.integers(len(sources.stills)))].image)
    wide = np.asarray(cv2.resize(image, (round(1.2 * size[0]), round(1.2 * size[1]))), np.uint8)
    x = 0.1 * size[0] + draw_curve(rng, frames, reach=0.15 * size[0])
    y = 0.1 * size[1] + draw_curve(rng, frames, reach=0.15 * size[1])
    return [
        np.asarray(
            cv2.warpAffine(
                wide,
                np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]]),
                size,
                borderMode=cv2.BORDER_REFLECT_101,
            ),
            np.uint8,
        )
        for left, top in zip(x, y, strict=True)
    ]


def paste(
    below: Pixels, item: Item, place: NDArray[np.float64], turn: float, scale: float
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Put the item over a picture, its center at `place` (x, y); return that and its pixels."""
    height, width = item.alpha.shape
    cos, sin = scale * np.cos(turn), scale * np.sin(turn)
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    matrix[:, 2] = place - matrix[:, :2] @ np.array([(width - 1) / 2, (height - 1) / 2])
    size = SIZE[::-1]
    above = np.asarray(cv2.warpAffine(item.image, matrix, size, borderMode=cv2.BORDER_REPLICATE))
    alpha = np.asarray(cv2.warpAffine(item.alpha, matrix, size))
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    image = np.asarray(cv2.blendLinear(above, below, share, 1 - share), np.uint8)
    return image, alpha >= _FULL
