"""Clips that are hard in one way each, made from fixed seeds: what a model is measured with.

Beside `dev`, whose six videos have a standard error of several points. A clip is a function of its
set and number; nothing of it is trained on as it is. F frames of H x W pixels, up to 10 objects.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import add_noise
from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.reappearance import (
    SIZE,
    Item,
    ReappearanceSources,
    draw_backdrop_frames,
    draw_curve,
    draw_item,
    make_reappearances,
    open_sources,
    paste,
    size_item,
)
from model.data.static import Pixels, read_labels, read_rgb
from model.data.video import Video

SEED = 20_261_129
FRAMES = 40
LONG_FRAMES = 600
_TRIES = 200
_QUALITY = 92  # of the JPEGs that a tracker is shown
_DARK = (0.15, 5.5)  # share of the brightness, deviation of the noise
_CUT = (16, 24)  # frames of another scene within a clip
_THIN = (2, 4)  # pixels
_TINY_PX, _TINY_AREA = 12, 60  # height and least area in pixels


@dataclass(frozen=True, slots=True)
class HardClip:
    """Encoded frames, and which object is where, uint8 (F, H, W); frame 0 shows every object."""

    name: str
    images: tuple[bytes, ...]
    labels: Pixels


@dataclass(frozen=True, slots=True)
class MovingItem:
    """An item that moves: its places (F, 2), turns (F,) and scales (F,)."""

    item: Item
    places: NDArray[np.float64]
    turns: NDArray[np.float64]
    scales: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stock:
    """What clips are made of: pictures and videos, the `dev` videos, those that are held out."""

    sources: ReappearanceSources
    dev: tuple[Video, ...]
    held_out: tuple[Video, ...]


def open_stock(root: Path | None = None) -> Stock:
    """Open the data below `root` (TAMVT_DATA); DataError names what is missing."""
    root = root or Path(os.environ.get("TAMVT_DATA", "data"))
    dev = VideoSet("shared", root / "video", "dev").open()
    return Stock(open_sources(1, root), dev, VideoSet("extra", root / "extra", "held-out").open())


def make_clips(stock: Stock, name: str) -> Iterator[HardClip]:
    """Make the clips of a set, each by its own seed; DataError for an unknown set."""
    if name not in SETS:
        raise DataError(f"no set {name!r}: the yardstick has {', '.join(SETS)}")
    yield from SETS[name](stock)


def _numbered(name: str, count: int) -> Iterator[tuple[str, np.random.Generator]]:
    for number in range(count):
        seed = [SEED, sum(name.encode()), number]
        yield f"{name}-{number:02d}", np.random.default_rng(seed)


def _make_twins(stock: Stock) -> Iterator[HardClip]:
    """Yield two copies of one thing that cross, one before the other, and part again."""
    for name, rng in _numbered("twins", 12):
        item = size_item(_whole_item(stock, rng), rng, share=rng.uniform(0.2, 0.35))
        other = Item(item.image[:, ::-1].copy(), item.alpha[:, ::-1].copy())
        height, width = SIZE
        away = rng.uniform(0.2, 0.3) * width
        middle = np.array([width / 2, height * rng.uniform(0.4, 0.6)])
        way = np.clip((np.arange(FRAMES) - 6) / (FRAMES - 14), 0, 1) * 2 - 1  # -1 to 1
        rise = rng.normal(0.0, 0.08 * height)
        items = [
            _moving(each, rng, middle + np.stack([side * away * way, side * rise * way], axis=1))
            for each, side in ((item, 1.0), (other if rng.random() < 0.5 else item, -1.0))
        ]
        yield _compose(stock, rng, name, items)


def _make_many(stock: Stock) -> Iterator[HardClip]:
    """Yield ten things that wander about and hide each other."""
    for name, rng in _numbered("many", 6):
        items = []
        for number in range(10):
            item = size_item(_whole_item(stock, rng), rng, share=rng.uniform(0.14, 0.26))
            column, row = number % 5, number // 5
            spot = np.array([(column + 0.5) / 5 * SIZE[1], (row + 0.5) / 2 * SIZE[0]])
            items.append(_moving(item, rng, spot + _wander(rng, reach=0.25)))
        yield _compose(stock, rng, name, items)


def _make_tiny(stock: Stock) -> Iterator[HardClip]:
    """Yield one thing, 12 pixels high, before a real video."""
    for name, rng in _numbered("tiny", 12):
        item = _tiny_item(stock, rng)
        spot = rng.uniform(0.25, 0.75, size=2) * SIZE[::-1]
        yield _compose(stock, rng, name, [_moving(item, rng, spot + _wander(rng, reach=0.3))])


def _tiny_item(stock: Stock, rng: np.random.Generator) -> Item:
    """Draw a compact object, 12 pixels high."""
    for _ in range(_TRIES):
        item = _whole_item(stock, rng)
        zoom = _TINY_PX / item.alpha.shape[0]
        item = size_item(item, rng, share=zoom * float(np.sqrt(item.alpha.size)) / SIZE[0])
        if np.count_nonzero(item.alpha >= 128) >= _TINY_AREA:
            return item
    raise DataError("no still picture has a compact object")


def _make_thin(stock: Stock) -> Iterator[HardClip]:
    """Yield a pole of a few pixels, cut from a picture, that turns and moves."""
    for name, rng in _numbered("thin", 10):
        length, width = int(rng.integers(70, 150)), int(rng.integers(*_THIN, endpoint=True))
        still = read_rgb(stock.sources.stills[int(rng.integers(len(stock.sources.stills)))].image)
        image = cv2.resize(still, (length, width), interpolation=cv2.INTER_AREA)
        framed = cv2.copyMakeBorder(image, 2, 2, 2, 2, cv2.BORDER_REPLICATE)
        alpha = cv2.copyMakeBorder(
            np.full((width, length), 255, np.uint8), 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0
        )
        item = Item(np.asarray(framed, np.uint8), np.asarray(alpha, np.uint8))
        spot = rng.uniform(0.3, 0.7, size=2) * SIZE[::-1]
        moving = _moving(item, rng, spot + _wander(rng, reach=0.25))
        turns = rng.uniform(0, np.pi) + draw_curve(rng, FRAMES, reach=1.5)
        yield _compose(stock, rng, name, [MovingItem(item, moving.places, turns, moving.scales)])


def _make_reappearing(stock: Stock) -> Iterator[HardClip]:
    """Yield one thing that leaves or is covered, and comes back (`reappearance`)."""
    for number, made in enumerate(make_reappearances(stock.sources, seed=SEED, count=14)):
        yield HardClip(f"returning-{number:02d}", made.images, made.masks)


def _make_dark(stock: Stock) -> Iterator[HardClip]:
    """Yield real videos at 15 % of their brightness, with a sensor's noise."""
    for video in (*stock.dev, *stock.held_out):
        rng = np.random.default_rng([SEED, len(video.name)])
        share, deviation = _DARK
        frames, labels = _cut_real(video, first=0, count=50)
        dim = (np.asarray(cv2.convertScaleAbs(each, alpha=share), np.uint8) for each in frames)
        images = tuple(_encoded(add_noise(each, deviation, rng)) for each in dim)
        yield HardClip(f"dark-{video.name}", images, labels)


def _make_scene_cut(stock: Stock) -> Iterator[HardClip]:
    """Yield real videos with some frames of another scene in between."""
    videos = (*stock.dev, *stock.held_out)
    for number, video in enumerate(videos):
        frames, labels = _cut_real(video, first=0, count=50)
        others, _ = _cut_real(videos[(number + 3) % len(videos)], first=0, count=50)
        begin, end = _CUT
        for moment in range(begin, min(end, len(frames))):
            frames[moment], labels[moment] = others[moment % len(others)], 0
        yield HardClip(f"cut-{video.name}", tuple(map(_encoded, frames)), labels)


def _long(stock: Stock) -> Iterator[HardClip]:
    """Yield 600 frames of one thing before a video that is played forth and back."""
    for name, rng in _numbered("long", 3):
        item = size_item(_whole_item(stock, rng), rng, share=rng.uniform(0.2, 0.35))
        spot = rng.uniform(0.4, 0.6, size=2) * SIZE[::-1]
        places = spot + _wander(rng, reach=0.35, frames=LONG_FRAMES)
        moving = _moving(item, rng, places)
        yield _compose(stock, rng, name, [moving], frames=LONG_FRAMES)


def _held_out(stock: Stock) -> Iterator[HardClip]:
    """Yield the `extra` videos that no training draws, whole."""
    for video in stock.held_out:
        yield make_whole_clip("held-out", video)


def make_extra_clips(root: Path) -> Iterator[HardClip]:
    """Make the `extra` videos below `root` that may be trained on, whole; no set of the yardstick.

    DataError names what is missing.
    """
    for video in VideoSet("extra", root / "extra", "train").open():
        yield make_whole_clip("extra", video)


def make_whole_clip(name: str, video: Video) -> HardClip:
    """Make a clip of a whole video at the yardstick's size."""
    frames, labels = _cut_real(video, first=0, count=len(video.frames))
    return HardClip(f"{name}-{video.name}", tuple(map(_encoded, frames)), labels)


SETS: Mapping[str, Callable[[Stock], Iterator[HardClip]]] = MappingProxyType(
    {
        "twins": _make_twins,
        "returning": _make_reappearing,
        "dark": _make_dark,
        "tiny": _make_tiny,
        "thin": _make_thin,
        "many": _make_many,
        "cut": _make_scene_cut,
        "long": _long,
        "held-out": _held_out,
    }
)


def _whole_item(stock: Stock, rng: np.random.Generator) -> Item:
    """Draw an object that the border of its picture does not cut."""
    for _ in range(_TRIES):
        item = draw_item(stock.sources, rng)
        if item is not None and min(item.alpha.shape) >= 24:
            return item
    raise DataError("no still picture has an object that a clip can be made of")


def _wander(rng: np.random.Generator, *, reach: float, frames: int = FRAMES) -> NDArray[np.float64]:
    """Draw a slow way (F, 2) about 0, that goes as far as `reach` of the picture."""
    return np.stack(
        [draw_curve(rng, frames, reach=2 * reach * side) for side in SIZE[::-1]], axis=1
    )


def _moving(item: Item, rng: np.random.Generator, places: NDArray[np.float64]) -> MovingItem:
    frames = len(places)
    turns = draw_curve(rng, frames, reach=0.3)
    return MovingItem(item, places, turns, np.exp(draw_curve(rng, frames, reach=0.3)))


def _compose(
    stock: Stock,
    rng: np.random.Generator,
    name: str,
    items: Sequence[MovingItem],
    *,
    frames: int = FRAMES,
) -> HardClip:
    """Paste the items over a backdrop, the later ones above; they are objects 1, 2, ..."""
    images, labels = [], np.zeros((frames, *SIZE), np.uint8)
    for moment, image in enumerate(draw_backdrop_frames(stock.sources, rng, frames=frames)):
        for label, moving in enumerate(items, start=1):
            turn, scale = moving.turns[moment], moving.scales[moment]
            image, taken = paste(image, moving.item, moving.places[moment], turn, scale)
            labels[moment][taken] = label
        images.append(_encoded(image))
    return HardClip(name, tuple(images), labels)


def _cut_real(video: Video, *, first: int, count: int) -> tuple[list[Pixels], Pixels]:
    """Return frames at the yardstick's size, and labels (F, H, W) of the first frame's objects."""
    size = SIZE[::-1]
    chosen = range(first, min(first + count, len(video.frames)))
    frames = [np.asarray(cv2.resize(read_rgb(video.frames[i]), size), np.uint8) for i in chosen]
    read = [read_labels(video.masks[i]) for i in chosen]
    read = [(each > 0).astype(np.uint8) for each in read] if video.united else read
    labels = np.stack(
        [cv2.resize(each, size, interpolation=cv2.INTER_NEAREST) for each in read]
    ).astype(np.uint8)
    given = np.setdiff1d(labels[0], [0, 255])
    table = np.zeros(256, np.uint8)
    table[given] = np.arange(1, len(given) + 1)
    return frames, np.asarray(table[labels], np.uint8)


def _encoded(image: Pixels) -> bytes:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])
