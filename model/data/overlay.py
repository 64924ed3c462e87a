"""Real video with things added to it, and real objects put over other backdrops.

F frames of a clip of side S. `seen` is what is seen of the target, uint8 {0, 1} (F, S, S), or of
several objects, 1, 2, ...
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.layers import Layer, blend, render, render_over, soften
from model.data.motion import draw_shifts
from model.data.scene_objects import (
    Stage,
    Stills,
    draw_cutout,
    draw_mover,
    draw_occluder,
    draw_placement,
    draw_target_layers,
    fit_to_share,
    move_to,
)
from model.data.static import PERSON, Pixels
from model.data.synthetic import MIN_SHARE, draw_backdrop, draw_stage, follow_as_object, list_traits

_BORDER_SHARE = 0.02  # of a side that an object may touch and still be shown whole elsewhere
_SMALLEST_PX, _LARGEST = 6, 0.16  # pixels of a small target's side; and its share of the clip's
_TRIES = 4  # pictures looked at for an object that is not cut off


class VideoFootage(NamedTuple):
    """frames uint8 (F, S, S, 3), what is seen of the target (F, S, S), and what was drawn."""

    frames: Pixels
    seen: Pixels
    traits: tuple[str, ...] = ()


# Frames (F, S, S, 3) and masks of any video, or None.
CutBackdrop = Callable[[], tuple[Pixels, Pixels] | None]


def add_something(
    footage: VideoFootage, stills: Stills, cut_backdrop: CutBackdrop, rng: np.random.Generator
) -> VideoFootage:
    """Return a small fast target, a twin, things in front, or another backdrop, drawn by chance."""
    kind, made = rng.random(), None
    if kind < 0.3:
        made = add_small_target(footage, stills, rng)
    elif kind < 0.48:
        made = add_twin(footage, rng)
    elif kind < 0.75:
        made = transplant(footage, stills, cut_backdrop, rng)
    return add_things(footage, stills, rng) if made is None else made


def add_objects(
    footage: VideoFootage, stills: Stills, rng: np.random.Generator, *, objects: int
) -> VideoFootage:
    """Return a twin or things, which are objects to follow as well, up to so many in all."""
    known = int(footage.seen[0].max())
    if known < objects and rng.random() < 0.4:
        footage = add_twin(footage, rng, label=known + 1) or footage
    return add_things(footage, stills, rng, objects=objects)


def add_things(
    footage: VideoFootage, stills: Stills, rng: np.random.Generator, *, objects: int = 1
) -> VideoFootage:
    """Move objects of pictures over the video, near its target; at times a strip hides it.

    Of several `objects`, those that are not in the video yet are such things.
    """
    frames, seen, traits = footage
    missing = objects - int(seen.max())
    count, size = len(frames), frames.shape[1]
    places, extent, radius = _locate_target(seen)
    stage = _still_stage(count, size, speed=size * 0.02 * float(np.exp(rng.normal(0.0, 0.7))))
    layers: tuple[Layer, ...] = ()
    drawn = int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))
    for number in range(max(drawn, missing)):
        same_category = stills.draw_same_category(PERSON, rng) if rng.random() < 0.3 else None
        item = draw_cutout(stills.draw_still(rng) if same_category is None else same_category, rng)
        if item is None:
            continue
        share = float(np.clip(extent / size * np.exp(rng.normal(-0.1, 0.5)), 0.05, 0.6))
        item = fit_to_share(item, share=share, size=size)
        aim = places[int(rng.integers(count))] + rng.normal(0.0, 0.25 * size, size=2)
        place = move_to(draw_placement(item, rng, size=size, share=share), item.center, aim)
        mover = draw_mover(item, place, stage, rng, leaves=0.05)
        layers += (
            follow_as_object(mover, objects - missing + 1 + number) if number < missing else mover,
        )
    if radius < 0.4 * size and rng.random() < 0.3:
        picture = stills.draw_still(rng).image
        layers += (draw_occluder(places, 1.1 * radius, picture, rng, size=size),)
    images, masks = np.empty_like(frames), np.empty_like(seen)
    for moment in range(count):
        images[moment], masks[moment] = render_over(frames[moment], seen[moment], layers, moment)
    occluder = ("occluder",) if "occluder" in list_traits(layers) else ()
    return VideoFootage(images, masks, (*traits, "things over video", *occluder))


def add_small_target(
    footage: VideoFootage, stills: Stills, rng: np.random.Generator
) -> VideoFootage | None:
    """Make a small and fast object of a picture the target instead of the video's own.

    At times it passes behind the video's object. None where no object was found.
    """
    frames, own, _ = footage
    count, size = len(frames), frames.shape[1]
    drawn = (draw_cutout(stills.draw_still(rng), rng) for _ in range(_TRIES))
    item = next((each for each in drawn if each is not None and not each.cropped), None)
    if item is None:
        return None
    least = min(_SMALLEST_PX / size, _LARGEST)
    share = float(np.exp(rng.uniform(np.log(least), np.log(_LARGEST))))
    item = fit_to_share(item, share=share, size=size)
    speed = size * 0.035 * float(np.exp(rng.normal(0.0, 0.6)))
    stage = _still_stage(count, size, speed=speed)
    place = draw_placement(item, rng, size=size, share=share)
    layers = draw_target_layers(item, place, stage, stills, rng)
    behind = rng.random() < 0.35
    images, masks = np.empty_like(frames), np.zeros_like(own)
    for moment, frame in enumerate(frames):
        images[moment], masks[moment] = render_over(frame, masks[moment], layers, moment)
        if behind:
            images[moment] = blend(images[moment], frame, soften(own[moment]))
            masks[moment] *= own[moment] == 0
    return VideoFootage(images, masks, ("small target on video", *list_traits(layers)))


def add_twin(
    footage: VideoFootage, rng: np.random.Generator, *, label: int = 0
) -> VideoFootage | None:
    """Move a copy of the video's own object beside it: mirrored, shifted, at another time.

    It is followed as the object `label`, if that is not 0. A copy of what a border cuts off stays
    at that border. None where the object is cut off by borders of both directions.
    """
    frames, seen, _ = footage
    free = find_free_directions(seen == 1)
    if not free.any():
        return None
    count, size = len(frames), frames.shape[1]
    places, extent, _ = _locate_target((seen == 1).astype(np.uint8))
    order, zoom = np.arange(count), 1.0
    if free.all():
        order = order[::-1] if rng.random() < 0.5 else order
        zoom = rng.uniform(0.7, 1.15)
    flip = np.where(free & (rng.random(2) < (0.6, 0.0)), -1.0, 1.0)
    beside = _draw_beside(places.mean(axis=0), extent, free, rng, size=size)
    shifts = free * draw_shifts(rng, frames=count, start=places[0], size=size, speed=0.01 * size)
    above = rng.random() < 0.35
    images, masks = np.empty_like(frames), np.empty_like(seen)
    for moment, source in enumerate(order):
        turn = np.diag(flip * zoom)
        spot = places[moment] + beside + shifts[moment]
        matrix = np.concatenate([turn, (spot - turn @ places[source])[:, None]], axis=1)
        copy = cv2.warpAffine(frames[source], matrix, (size, size))
        own = (seen[source] == 1).astype(np.uint8)
        cover = cv2.warpAffine(soften(own), matrix, (size, size))
        if not above:
            cover = np.where(seen[moment] > 0, 0, cover)
        alpha = np.asarray(cover, dtype=np.uint8)
        images[moment] = blend(frames[moment], np.asarray(copy, np.uint8), alpha)
        masks[moment] = np.where(alpha < 128, seen[moment], label)
    return VideoFootage(images, masks, ("twin on video",))


def _draw_beside(
    place: NDArray[np.float64],
    extent: float,
    free: NDArray[np.bool_],
    rng: np.random.Generator,
    *,
    size: int,
) -> NDArray[np.float64]:
    """Draw a way (x, y) to beside the place, in free directions, within the clip if possible."""
    for _ in range(_TRIES):
        angle = rng.uniform(0, 2 * np.pi)
        way = free * np.array([np.cos(angle), np.sin(angle)])
        beside = rng.uniform(0.6, 1.6) * extent * way / np.hypot(*way)
        if ((place + beside > 0.1 * size) & (place + beside < 0.9 * size)).all():
            break
    return np.asarray(beside)


def transplant(
    footage: VideoFootage, stills: Stills, cut_backdrop: CutBackdrop, rng: np.random.Generator
) -> VideoFootage:
    """Put the video's object, as it really moves, over another video or over a picture."""
    frames, seen, _ = footage
    count, size = len(frames), frames.shape[1]
    other = cut_backdrop() if rng.random() < 0.4 else None
    if other is None:
        stage = draw_stage(rng, size=size, frames=count)
        backdrop = draw_backdrop(stills, stage, rng)
        images = np.stack([render([backdrop], moment, size=size)[0] for moment in range(count)])
    else:
        images = other[0]
    masks = np.empty_like(seen)
    for moment, frame in enumerate(frames):
        alpha = soften(seen[moment])
        images[moment] = blend(images[moment], frame, alpha)
        masks[moment] = alpha >= 128
    return VideoFootage(images, masks, ("transplanted",))


def find_free_directions(seen: NDArray[np.uint8] | NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether a copy may move along x and y: not where a border cuts the target off."""
    sides = ((seen[:, :, 0], seen[:, :, -1]), (seen[:, 0], seen[:, -1]))
    most = _BORDER_SHARE * seen.shape[1]
    return np.array([max(int(edge.sum(axis=1).max()) for edge in pair) <= most for pair in sides])


def shows_target(footage: VideoFootage) -> bool:
    """Return whether the first frame shows enough of the target."""
    return bool(footage.seen[0].mean() >= MIN_SHARE)


def _still_stage(frames: int, size: int, *, speed: float) -> Stage:
    return Stage(np.tile(np.eye(3), (frames, 1, 1)), size, speed)


def _locate_target(seen: Pixels) -> tuple[NDArray[np.float64], float, float]:
    """Return the target's centers (F, 2), the last where it is unseen, its extent and radius."""
    centers, extents, radii = [], [0.0], [0.0]
    last = np.full(2, seen.shape[1] / 2)
    for mask in seen:
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            last = np.array([x + width / 2, y + height / 2])
            extents.append(float(np.sqrt(width * height)))
            radii.append(float(np.hypot(width, height)) / 2)
        centers.append(last)
    return np.stack(centers), max(extents), max(radii)
