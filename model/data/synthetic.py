"""A still picture turned into a clip: it moves, bends, drifts in colour, and is occluded.

A scene is a backdrop and layers over it, bottom to top. The target is the backdrop's object, or
a layer of its own; extras are other moving things: occluders and distractors.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import draw_colour, draw_look, finish
from model.data.layers import Cutout, Layer, cut_out, fill_hole, first_mask, render, soften
from model.data.motion import (
    Matrix,
    Pace,
    Path,
    apply,
    draw_excursion,
    draw_path,
    draw_shifts,
    draw_wave,
    mirrored,
)
from model.data.static import Pixels, Still, pick_object

# Shares of the first frame that the target has to cover, and may.
MIN_SHARE, MAX_SHARE = 0.003, 0.7
# Of its picture; smaller instances are too coarse to follow.
_MIN_INSTANCE = 0.004

DrawStill = Callable[[np.random.Generator], Still]


@dataclass(frozen=True, slots=True)
class Stage:
    """What a clip's layers share: the camera's path, the side and the typical speed in pixels."""

    camera: Path
    size: int
    speed: float

    @property
    def frames(self) -> int:
        return len(self.camera)


def make_clip(
    draw_still: DrawStill, rng: np.random.Generator, *, size: int, frames: int
) -> tuple[Pixels, Pixels] | None:
    """Frames uint8 (F, size, size, 3) and masks uint8 {0, 1} (F, size, size), or None.

    None where the drawn picture has no fitting object, or the first frame would not show it.
    """
    still = draw_still(rng)
    target = _draw_cutout(still, rng)
    if target is None:
        return None
    layers = _draw_scene(target, still, draw_still, _draw_stage(rng, size=size, frames=frames), rng)
    seen, whole = first_mask(layers, size=size)
    if not MIN_SHARE <= seen.mean() <= MAX_SHARE or seen.sum() < 0.6 * whole.sum():
        return None
    look = draw_look(rng, frames=frames, strength=0.75)
    rendered = [render(layers, moment, size=size) for moment in range(frames)]
    images = [finish(image, look, moment, rng) for moment, (image, _) in enumerate(rendered)]
    return np.stack(images), np.stack([mask for _, mask in rendered])


def _draw_cutout(still: Still, rng: np.random.Generator) -> Cutout | None:
    """An object of the picture, or None."""
    mask = pick_object(still.labels, rng, min_share=_MIN_INSTANCE)
    return None if mask is None else cut_out(still.image, mask)


def _draw_stage(rng: np.random.Generator, *, size: int, frames: int) -> Stage:
    """Speeds are near those of DAVIS at 1 to 5 frames a step; the camera at times stands still."""
    speed = size * 0.022 * float(np.exp(rng.normal(0.0, 0.8)))
    level = float(rng.choice([0.0, 0.5, 1.0, 2.0], p=[0.15, 0.35, 0.35, 0.15]))
    centre = np.array([size / 2, size / 2])
    shifts = draw_shifts(rng, frames=frames, start=centre, size=size, speed=0.012 * size * level)
    pace = Pace(turn=0.012 * level, growth=0.012 * level, shear=0.004 * level)
    return Stage(draw_path(rng, shifts, pivot=centre, pace=pace), size, speed)


def _draw_scene(
    target: Cutout, still: Still, draw_still: DrawStill, stage: Stage, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """All layers of a clip of `target`, an object of `still`."""
    # An object that its own picture cuts off shows a straight edge when pasted in mid-air.
    whole, in_place = (0.5, 0.9) if target.cropped else (0.3, 0.6)
    kind = rng.random()
    if kind < whole:
        base = _whole_picture(target, stage, rng)
    elif kind < in_place:
        base = _moved_in_place(target, stage, rng)
    else:
        base = _pasted(target, draw_still(rng), stage, rng)
    place = base[-1].path[0]
    extras = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))):
        item = _draw_item(target, still, draw_still, rng)
        if item is not None:
            extras.append(_extra(item, target, place, stage, rng))
    return _stack(base, extras, rng)


def _stack(
    base: tuple[Layer, ...], extras: list[Layer], rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Backdrop first; extras above the target, or below a target that is a layer of its own."""
    backdrop, *own = base
    count = int(rng.binomial(len(extras), 0.35)) if own else 0
    return (backdrop, *extras[:count], *own, *extras[count:])


def _whole_picture(target: Cutout, stage: Stage, rng: np.random.Generator) -> tuple[Layer, ...]:
    """The picture as it is, moving and bending as one."""
    place = _frame_picture(target, rng, size=stage.size)
    pace = Pace(turn=0.02, growth=0.02, shear=0.01)
    still = np.zeros((stage.frames, 2))
    own = draw_path(rng, still, pivot=apply(place, target.centre), pace=pace)
    picture = Layer(
        image=target.image,
        alpha=None,
        mask=target.mask,
        path=stage.camera @ own @ place,
        centre=target.centre,
        wave=draw_wave(rng, extent=1.5 * target.extent, strength=rng.uniform(0.2, 1.1)),
        shutter=_draw_shutter(rng),
    )
    return (picture,)


def _moved_in_place(target: Cutout, stage: Stage, rng: np.random.Generator) -> tuple[Layer, ...]:
    """The object moves over its own picture, the hole behind it filled from around."""
    place = _frame_picture(target, rng, size=stage.size)
    # A little more than the object, whose colours bleed over its outline.
    hole = np.asarray(cv2.dilate(target.mask, np.ones((7, 7), np.uint8)), dtype=np.uint8)
    backdrop = Layer(
        image=fill_hole(target.image, hole),
        alpha=None,
        mask=None,
        path=stage.camera @ place,
        centre=target.centre,
    )
    # Slower, as most of such a motion uncovers made-up pixels.
    return backdrop, _moving(target, place, replace(stage, speed=0.6 * stage.speed), rng)


def _pasted(
    target: Cutout, other: Still, stage: Stage, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """The object moves over another picture."""
    height, width = other.image.shape[:2]
    zoom = stage.size * rng.uniform(1.05, 1.6) / min(height, width)
    room = np.array([width, height]) * zoom - stage.size
    view = _view(zoom, room * rng.uniform(0.1, 0.9, size=2), size=stage.size, rng=rng)
    backdrop = Layer(
        image=other.image,
        alpha=None,
        mask=None,
        path=stage.camera @ view,
        centre=np.array([width / 2, height / 2]),
        shutter=_draw_shutter(rng),
    )
    share = float(np.exp(rng.uniform(np.log(0.12), np.log(0.75))))
    return backdrop, _moving(target, _draw_place(target, stage, rng, share=share), stage, rng)


def _moving(item: Cutout, place: Matrix, stage: Stage, rng: np.random.Generator) -> Layer:
    """`item` as a layer with its own motion on top of the camera's; the target until told."""
    start = apply(place, item.centre)
    frames, size = stage.frames, stage.size
    if rng.random() < 0.12:
        radius = 0.5 * item.extent * _scale(place)
        shifts = draw_excursion(rng, frames=frames, start=start, size=size, radius=radius)
    else:
        shifts = draw_shifts(rng, frames=frames, start=start, size=size, speed=stage.speed)
    pace = Pace(turn=float(rng.choice([0.01, 0.03, 0.08])), growth=0.025, shear=0.015)
    drifts = rng.random() < 0.3
    return Layer(
        image=item.image,
        alpha=soften(item.mask),
        mask=item.mask,
        path=stage.camera @ draw_path(rng, shifts, pivot=start, pace=pace) @ place,
        centre=item.centre,
        wave=draw_wave(rng, extent=item.extent, strength=rng.uniform(0.2, 1.5)),
        colour=draw_colour(rng, frames=frames, start=0.3, drift=0.7) if drifts else None,
        shutter=_draw_shutter(rng),
    )


def _draw_item(
    target: Cutout, still: Still, draw_still: DrawStill, rng: np.random.Generator
) -> Cutout | None:
    """Another object: a twin of the target, a neighbour from its picture, or a stranger."""
    kind = rng.random()
    if kind < 0.12:
        return target
    return _draw_cutout(still if kind < 0.4 else draw_still(rng), rng)


def _extra(
    item: Cutout, target: Cutout, place: Matrix, stage: Stage, rng: np.random.Generator
) -> Layer:
    """`item` about as large as the target that lies at `place`, anywhere or setting off near it."""
    share = target.extent * _scale(place) / stage.size * np.exp(rng.normal(0.0, 0.4))
    own = _draw_place(item, stage, rng, share=float(np.clip(share, 0.08, 0.6)))
    if item is target or rng.random() < 0.5:
        # Near enough to occlude it in some frame; but a twin not right on it.
        angle, distance = rng.uniform(0, 2 * np.pi), stage.size * rng.uniform(0.2, 0.5)
        aim = apply(place, target.centre) + distance * np.array([np.cos(angle), np.sin(angle)])
        own[:2, 2] += aim - apply(own, item.centre)
    layer = _moving(item, own, replace(stage, speed=1.3 * stage.speed), rng)
    return replace(layer, mask=None)


def _frame_picture(target: Cutout, rng: np.random.Generator, *, size: int) -> Matrix:
    """A view of the target's own picture that holds the target, at times zoomed in, or flipped."""
    height, width = target.mask.shape
    zoom = size * float(np.exp(rng.uniform(0.0, np.log(1.7)))) / min(height, width)
    room = np.array([width, height]) * zoom - size
    # The centre of the object lands well inside the clip where its picture allows that.
    corner = target.centre * zoom - size * rng.uniform(0.25, 0.75, size=2)
    return _view(zoom, np.clip(corner, 0.0, np.maximum(room, 0.0)), size=size, rng=rng)


def _view(
    zoom: float, corner: NDArray[np.float64], *, size: int, rng: np.random.Generator
) -> Matrix:
    """A picture enlarged by `zoom`, seen from `corner` (x, y) on, mirrored half of the time."""
    view = np.array([[zoom, 0.0, -corner[0]], [0.0, zoom, -corner[1]], [0.0, 0.0, 1.0]])
    return mirrored(view, size=size) if rng.random() < 0.5 else view


def _draw_place(item: Cutout, stage: Stage, rng: np.random.Generator, *, share: float) -> Matrix:
    """A place where `item` takes `share` of the side: a random spot, a slight turn, a flip."""
    zoom = min(share * stage.size / item.extent, 2.0)
    angle, flip = rng.normal(0.0, 0.12), -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    place = np.array([[flip * cos, -sin, 0.0], [flip * sin, cos, 0.0], [0.0, 0.0, 1.0]])
    place[:2, 2] = rng.uniform(0.15, 0.85, size=2) * stage.size - place[:2, :2] @ item.centre
    return place


def _scale(matrix: Matrix) -> float:
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def _draw_shutter(rng: np.random.Generator) -> float:
    """The share of a frame's time that the shutter is open; most layers are sharp."""
    return float(rng.uniform(0.3, 0.9)) if rng.random() < 0.2 else 0.0
