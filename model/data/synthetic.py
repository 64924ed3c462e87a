"""A still picture turned into a clip: it moves, bends, changes, comes apart, is hidden, returns.

A scene is a backdrop and layers over it, bottom to top. The target is the backdrop's object, or
a layer of its own, or several; extras are other moving things: occluders and distractors.
"""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import draw_color, draw_look, finish
from model.data.fill import fill_hole
from model.data.layers import Cutout, Layer, find_first_mask, render
from model.data.motion import (
    Matrix,
    Pace,
    Path,
    apply,
    covering,
    draw_path,
    draw_shifts,
    draw_wave,
)
from model.data.scene_objects import (
    Stage,
    Stills,
    draw_cutout,
    draw_mover,
    draw_occluder,
    draw_placement,
    draw_shutter,
    draw_target_layers,
    draw_view,
    fit_to_share,
    measure_scale,
    move_to,
)
from model.data.static import Pixels, Still, keep_shown, label_others

# Shares of the first frame that the target has to cover, and may.
MIN_SHARE, MAX_SHARE = 0.0004, 0.7  # 26 pixels of 256 x 256
_OCCLUDER = 0.09
_TWIN, _SAME_CATEGORY, _NEIGHBOR = 0.3, 0.5, 0.72  # cumulated; else a stranger
_CROSSING = 0.5  # of the extras that are followed pass before or behind the target
_UNDER = 0.35  # extras that lie below a target that is a layer of its own


class MadeSample(NamedTuple):
    """frames uint8 (F, H, W, 3), masks uint8 (F, H, W) of labels, what was drawn to make them.

    The target is labeled 1, further objects 2, 3, ...; 0 is background.
    """

    frames: Pixels
    masks: Pixels
    traits: tuple[str, ...]


def make_sample(
    stills: Stills, rng: np.random.Generator, *, size: int, frames: int, objects: int = 1
) -> MadeSample | None:
    """Return a clip of `frames` frames of that side, of up to so many objects, or None.

    None where the drawn picture has no fitting object, or the first frame would not show it.
    """
    still = stills.draw_still(rng)
    target = draw_cutout(still, rng)
    if target is None:
        return None
    stage = draw_stage(rng, size=size, frames=frames)
    layers = _draw_scene(target, still, stills, stage, rng, objects=objects)
    if not shows_target(layers, size=size):
        return None
    look = draw_look(rng, frames=frames, strength=0.75)
    images, masks = (
        np.empty((frames, size, size, 3), np.uint8),
        np.empty((frames, size, size), np.uint8),
    )
    for moment in range(frames):
        image, masks[moment] = render(layers, moment, size=size)
        images[moment] = finish(image, look, moment, rng)
    if objects > 1:
        masks = keep_shown(masks, least=MIN_SHARE)
    return MadeSample(images, masks, list_traits(layers) + look.traits)


def shows_target(layers: tuple[Layer, ...], *, size: int) -> bool:
    """Return whether the first frame shows enough of the target."""
    seen, whole = find_first_mask(layers, size=size)
    return bool(MIN_SHARE <= seen.mean() <= MAX_SHARE and seen.sum() >= 0.6 * whole.sum())


def list_traits(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Return what was drawn to make the layers, each once."""
    return tuple(dict.fromkeys(trait for layer in layers for trait in layer.traits))


def draw_stage(rng: np.random.Generator, *, size: int, frames: int) -> Stage:
    """Draw speeds near those of DAVIS at 1 to 5 frames a step; the camera at times stands still."""
    speed = size * 0.025 * float(np.exp(rng.normal(0.0, 0.85)))
    level = float(rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.15, 0.3, 0.35, 0.2]))
    center = np.array([size / 2, size / 2])
    shifts = draw_shifts(rng, frames=frames, start=center, size=size, speed=0.012 * size * level)
    pace = Pace(turn=0.012 * level, growth=0.012 * level, shear=0.004 * level)
    return Stage(draw_path(rng, shifts, pivot=center, pace=pace), size, speed)


def _draw_scene(
    target: Cutout,
    still: Still,
    stills: Stills,
    stage: Stage,
    rng: np.random.Generator,
    *,
    objects: int,
) -> tuple[Layer, ...]:
    """Draw all layers of a sample of `target`, an object of `still`, and of up to so many."""
    # An object that its own picture cuts off shows a straight edge when pasted in mid-air.
    whole, in_place = (0.45, 0.9) if target.cropped else (0.25, 0.55)
    kind = rng.random()
    if kind < whole:
        base = _move_whole_picture(target, stage, rng)
    elif kind < in_place:
        base = _move_in_place(target, stills, stage, rng)
    else:
        share = float(np.exp(rng.uniform(np.log(0.035), np.log(0.75))))
        target = fit_to_share(target, share=share, size=stage.size)
        backdrop = replace(draw_backdrop(stills, stage, rng), traits=("pasted",))
        place = draw_placement(target, rng, size=stage.size, share=share)
        base = (backdrop, *draw_target_layers(target, place, stage, stills, rng))
    place = base[-1].path[0]
    if objects > 1:
        base = _add_others(base, still, target, rng, most=objects - 1)
    known = 1 + max(int(layer.mask.max()) - 1 for layer in base if layer.mask is not None)
    extras: list[Layer] = []
    drawn = int(rng.choice([0, 1, 2, 3], p=[0.35, 0.35, 0.2, 0.1]))
    for _ in range(max(drawn, objects - known)):
        extra = _draw_extra(target, still, place, stills, stage, rng)
        extras += [] if extra is None else [extra]
    places = np.stack([apply(matrix, target.center) for matrix in base[-1].path])
    for index, extra in enumerate(extras[: objects - known]):
        met = cross(extra, places, rng, size=stage.size) if rng.random() < _CROSSING else extra
        extras[index] = follow_as_object(met, known + 1 + index)
    backdrop, *own = base
    # Extras lie above a target that is in the base, but for some of them.
    under = int(rng.binomial(len(extras), _UNDER)) if own else 0
    layers = (backdrop, *extras[:under], *own, *extras[under:])
    if rng.random() < _OCCLUDER:
        radius = 1.1 * target.radius * measure_scale(place)
        picture = stills.draw_still(rng).image
        layers += (draw_occluder(places, radius, picture, rng, size=stage.size),)
    return layers


def cross(
    layer: Layer, places: NDArray[np.float64], rng: np.random.Generator, *, size: int
) -> Layer:
    """Return a layer that passes over `places` (F, 2), those of the target, at some moment.

    It comes from one side and leaves to the other, straight as the target sees it.
    """
    frames = len(places)
    middle = rng.uniform(0.25, 0.75) * (frames - 1)
    angle = rng.uniform(0, 2 * np.pi)
    way = rng.uniform(0.5, 1.3) * size * np.array([np.cos(angle), np.sin(angle)])
    moments = (np.arange(frames) - middle) / max(1, frames - 1)
    aims = places + moments[:, None] * way + rng.normal(0.0, 0.03 * size, size=2)
    path = layer.path.copy()
    path[:, :2, 2] += aims - np.stack([apply(matrix, layer.center) for matrix in layer.path])
    return replace(layer, path=path, traits=(*layer.traits, "crossing"))


def _add_others(
    base: tuple[Layer, ...], still: Still, target: Cutout, rng: np.random.Generator, *, most: int
) -> tuple[Layer, ...]:
    """Return `base` with the other instances of its backdrop, if that is the target's picture."""
    backdrop, *own = base
    if "pasted" in backdrop.traits or target.mask.shape != still.labels.shape:
        return base
    hole = np.asarray(cv2.dilate(target.mask, np.ones((7, 7), np.uint8)), dtype=np.uint8)
    others = label_others(still, hole if own else target.mask, rng, most=most)
    if others is None:
        return base
    mask = others if backdrop.mask is None else np.where(backdrop.mask > 0, 1, others)
    return (replace(backdrop, mask=mask.astype(np.uint8)), *own)


def follow_as_object(layer: Layer, label: int) -> Layer:
    """Return a moving layer that is followed as object `label`."""
    alpha = np.asarray(cv2.extractChannel(layer.surface, 3), np.uint8)
    return replace(layer, mask=alpha, label=label)


def _move_whole_picture(
    target: Cutout, stage: Stage, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Return the picture as it is, moving and bending as one."""
    place = _frame_target(target, rng, size=stage.size)
    pace = Pace(turn=0.02, growth=0.02, shear=0.01)
    own = draw_path(rng, np.zeros((stage.frames, 2)), pivot=apply(place, target.center), pace=pace)
    motion = stage.camera @ own
    picture = _draw_backdrop_layer(target.image, motion, place, rng, size=stage.size)
    wave = draw_wave(rng, extent=1.5 * target.extent, strength=rng.uniform(0.2, 1.1))
    return (
        replace(
            picture, mask=target.mask, center=target.center, wave=wave, traits=("whole picture",)
        ),
    )


def _move_in_place(
    target: Cutout, stills: Stills, stage: Stage, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Make the object move over its own picture, the hole behind it filled."""
    # A little more than the object, whose colors bleed over its outline.
    hole = np.asarray(cv2.dilate(target.mask, np.ones((7, 7), np.uint8)), dtype=np.uint8)
    place = _frame_target(target, rng, size=stage.size)
    filled = fill_hole(target.image, hole, rng)
    backdrop = _draw_backdrop_layer(filled, stage.camera, place, rng, size=stage.size)
    place = backdrop.path[0]
    # Slower, as most of such a motion uncovers made-up pixels.
    slower = replace(stage, speed=0.7 * stage.speed)
    own = draw_target_layers(target, place, slower, stills, rng)
    return replace(backdrop, traits=("in place",)), *own


def draw_backdrop(stills: Stills, stage: Stage, rng: np.random.Generator) -> Layer:
    """Return a picture seen by the stage's camera."""
    image = stills.draw_still(rng).image
    height, width = image.shape[:2]
    zoom = stage.size * rng.uniform(1.05, 1.6) / min(height, width)
    room = np.array([width, height]) * zoom - stage.size
    view = draw_view(zoom, room * rng.uniform(0.1, 0.9, size=2), rng, size=stage.size)
    return _draw_backdrop_layer(image, stage.camera, view, rng, size=stage.size)


def _draw_backdrop_layer(
    image: Pixels, motion: Path, place: Matrix, rng: np.random.Generator, *, size: int
) -> Layer:
    """Return a solid layer that fills the clip.

    The place is mended so that hardly a border shows.
    """
    height, width = image.shape[:2]
    return Layer(
        surface=image,
        mask=None,
        path=motion @ covering(place, motion, (width, height), size=size),
        center=np.array([width / 2, height / 2]),
        box=(0, 0, width, height),
        shutter=draw_shutter(rng),
    )


def _draw_extra(
    target: Cutout,
    still: Still,
    place: Matrix,
    stills: Stills,
    stage: Stage,
    rng: np.random.Generator,
) -> Layer | None:
    """Draw something else that moves: a twin, one of the target's kind, a neighbor, a stranger."""
    kind = rng.random()
    if kind < _TWIN:
        return _draw_twin(target, place, stage, rng)
    item, trait = None, "distractor"
    if kind < _SAME_CATEGORY and target.kind is not None:
        other = stills.draw_same_category(target.kind, rng)
        item, trait = (
            (None if other is None else draw_cutout(other, rng, target.kind)),
            "same category",
        )
    elif kind < _NEIGHBOR:
        item, trait = draw_cutout(still, rng), "neighbor"
    else:
        item = draw_cutout(stills.draw_still(rng), rng)
    if item is None:
        return None
    return replace_traits(_place_extra(item, target, place, stage, rng), trait)


def _draw_twin(target: Cutout, place: Matrix, stage: Stage, rng: np.random.Generator) -> Layer:
    """Return a copy of the target, mirrored or not, of other colors or the same."""
    layer = _place_extra(target, target, place, stage, rng)
    if rng.random() < 0.5:
        color = draw_color(rng, frames=stage.frames, start=0.9, drift=0.2)
        layer = replace(layer, color=color)
    return replace_traits(layer, "twin")


def replace_traits(layer: Layer, *traits: str) -> Layer:
    return replace(layer, traits=traits)


def _place_extra(
    item: Cutout, target: Cutout, place: Matrix, stage: Stage, rng: np.random.Generator
) -> Layer:
    """Draw `item`, as large as the target at `place`, anywhere or setting off near it."""
    share = target.extent * measure_scale(place) / stage.size * np.exp(rng.normal(0.0, 0.4))
    share = float(np.clip(share, 0.05, 0.6))
    twin, item = item is target, fit_to_share(item, share=share, size=stage.size)
    own = draw_placement(item, rng, size=stage.size, share=share)
    if twin or rng.random() < 0.5:
        # Near enough to occlude it in some frame; but a twin not right on it.
        angle, distance = rng.uniform(0, 2 * np.pi), stage.size * rng.uniform(0.2, 0.5)
        aim = apply(place, target.center) + distance * np.array([np.cos(angle), np.sin(angle)])
        own = move_to(own, item.center, aim)
    faster = replace(stage, speed=1.3 * stage.speed)
    return draw_mover(item, own, faster, rng, leaves=0.15)


def _frame_target(target: Cutout, rng: np.random.Generator, *, size: int) -> Matrix:
    """Draw a view of the target's own picture that holds it, at times zoomed in or flipped."""
    height, width = target.mask.shape
    zoom = size * float(np.exp(rng.uniform(0.0, np.log(1.7)))) / min(height, width)
    room = np.array([width, height]) * zoom - size
    # The center of the object lands well inside the clip where its picture allows that.
    corner = target.center * zoom - size * rng.uniform(0.25, 0.75, size=2)
    return draw_view(zoom, np.clip(corner, 0.0, np.maximum(room, 0.0)), rng, size=size)
