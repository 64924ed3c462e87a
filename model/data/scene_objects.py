"""What moves in a clip: an object's place, its path, its parts, and what passes in front of it."""

from dataclasses import dataclass, replace
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import draw_color
from model.data.layers import Cutout, Layer, Texture, cut_out, join_alpha, soften
from model.data.motion import (
    Matrix,
    Pace,
    Path,
    apply,
    draw_absence,
    draw_path,
    draw_shifts,
    draw_wave,
    mirrored,
)
from model.data.parts import Part, box_of, hinge, split
from model.data.static import MIN_INSTANCE, Pixels, Still, pick_instance

_HINGED, _SPLIT = 0.22, 0.10  # of targets that are layers of their own
_RECOLORED, _RETEXTURED = 0.3, 0.07
_LEAVES = 0.25


class Stills(Protocol):
    """Pictures to draw objects from."""

    def draw_still(self, rng: np.random.Generator) -> Still: ...

    def draw_same_category(self, kind: str, rng: np.random.Generator) -> Still | None:
        """Return a picture with an object of that kind, or None where none is known."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """What a clip's layers share: the camera's path, the side and the typical speed in pixels."""

    camera: Path
    size: int
    speed: float

    @property
    def frames(self) -> int:
        return len(self.camera)


def draw_cutout(still: Still, rng: np.random.Generator, kind: str | None = None) -> Cutout | None:
    """Return an object of the picture, of that kind where one is given, or None."""
    picked = pick_instance(still, rng, min_share=MIN_INSTANCE, kind=kind)
    return None if picked is None else cut_out(still.image, picked.mask, picked.kind)


def draw_target_layers(
    item: Cutout, place: Matrix, stage: Stage, stills: Stills, rng: np.random.Generator
) -> tuple[Layer, ...]:
    """Return `item` as the target: a layer or parts, which may leave, change, come apart."""
    layer = draw_mover(item, place, stage, rng, leaves=_LEAVES)
    layer = replace(layer, mask=item.mask)
    if rng.random() < _RETEXTURED:
        layer = retextured(layer, stills.draw_still(rng).image, stage.frames, rng)
    parts: tuple[Part, ...] = ()
    kind, trait = rng.random(), ""
    if kind < _HINGED:
        parts, trait = hinge(item, rng, frames=stage.frames), "hinged"
    elif kind < _HINGED + _SPLIT:
        parts, trait = split(item, rng, frames=stage.frames), "split"
    return tuple(_part_layer(layer, part, trait) for part in parts) or (layer,)


def _part_layer(layer: Layer, part: Part, trait: str) -> Layer:
    alpha, texture = soften(part.mask), layer.texture
    if texture is not None:
        texture = replace(texture, surface=join_alpha(texture.surface[..., :3], alpha))
    return replace(
        layer,
        surface=join_alpha(layer.surface[..., :3], alpha),
        texture=texture,
        mask=part.mask,
        box=box_of(part),
        path=layer.path @ part.path,
        traits=(*layer.traits, trait),
    )


def draw_mover(
    item: Cutout, place: Matrix, stage: Stage, rng: np.random.Generator, *, leaves: float
) -> Layer:
    """Return `item` as a layer with its own motion on top of the camera's.

    `leaves` is how likely.
    """
    start, frames, size = apply(place, item.center), stage.frames, stage.size
    scales, traits = np.ones(frames), []
    if rng.random() < leaves:
        radius = item.radius * measure_scale(place)
        shifts, scales = draw_absence(rng, frames=frames, start=start, size=size, radius=radius)
        traits.append("leaves")
    else:
        shifts = draw_shifts(rng, frames=frames, start=start, size=size, speed=stage.speed)
    pace = Pace(turn=float(rng.choice([0.01, 0.03, 0.08])), growth=0.025, shear=0.015)
    own = draw_path(rng, shifts, pivot=start, pace=pace)
    growth = np.tile(np.eye(3), (len(scales), 1, 1))  # about `start`
    growth[:, 0, 0] = growth[:, 1, 1] = scales
    growth[:, :2, 2] = (1.0 - scales)[:, None] * start
    own = own @ growth
    color = None
    if rng.random() < _RECOLORED:
        drift = float(rng.choice([0.5, 1.2]))
        color = draw_color(rng, frames=frames, start=0.3, drift=drift)
        traits.append("recolored")
    return Layer(
        surface=join_alpha(item.image, soften(item.mask)),
        mask=None,
        path=stage.camera @ own @ place,
        center=item.center,
        box=item.box,
        wave=draw_wave(rng, extent=item.extent, strength=rng.uniform(0.2, 1.5)),
        color=color,
        shutter=draw_shutter(rng),
        traits=tuple(traits),
    )


def retextured(layer: Layer, other: Pixels, frames: int, rng: np.random.Generator) -> Layer:
    """Return `layer` with a surface that turns into another picture's, in part, at some frame."""
    left, top = layer.box[:2]
    height, width = layer.surface.shape[:2]
    # The other picture is laid out from the corner of the box on, mirrored where it ends.
    rows = mirror_indices(np.arange(height) - top, len(other))
    columns = mirror_indices(np.arange(width) - left, other.shape[1])
    begin, end = rng.uniform(0.0, 0.5), rng.uniform(0.6, 1.2)
    ramp = np.clip((np.linspace(0.0, 1.0, frames) - begin) / (end - begin), 0.0, 1.0)
    other = join_alpha(other[np.ix_(rows, columns)], layer.surface[..., 3])
    texture = Texture(other, ramp * rng.uniform(0.4, 0.9))
    return replace(layer, texture=texture, traits=(*layer.traits, "retextured"))


def mirror_indices(places: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Return indices below `length` that run forth and back: ... 1 0 0 1 ... n-1 n-1 ...

    For places.
    """
    folded = places % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


def fit_to_share(item: Cutout, *, share: float, size: int) -> Cutout:
    """Return `item` smaller where it is to take a small `share` of the side, lest it flicker."""
    zoom = 2.0 * share * size / item.extent
    if zoom >= 1.0:
        return item
    left, top, width, height = item.box
    edge = slice(max(0, top - 4), top + height + 4), slice(max(0, left - 4), left + width + 4)
    shape = item.mask[edge].shape
    small = (max(4, round(shape[1] * zoom)), max(4, round(shape[0] * zoom)))
    image = cv2.resize(item.image[edge], small, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(item.mask[edge] * np.uint8(255), small, interpolation=cv2.INTER_AREA) > 127
    if not mask.any():
        return item
    made = cut_out(np.asarray(image, np.uint8), mask.astype(np.uint8), item.kind)
    return replace(made, cropped=item.cropped)


def draw_placement(
    item: Cutout, rng: np.random.Generator, *, size: int, share: float, largest: float = 2.0
) -> Matrix:
    """Draw a place where `item` takes `share` of the side: a spot, a slight turn, a flip."""
    zoom = min(share * size / item.extent, largest)
    angle, flip = rng.normal(0.0, 0.12), -1.0 if rng.random() < 0.5 else 1.0
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    place = np.array([[flip * cos, -sin, 0.0], [flip * sin, cos, 0.0], [0.0, 0.0, 1.0]])
    spot = rng.uniform(0.15, 0.85, size=2) * size
    return move_to(place, item.center, spot)


def move_to(place: Matrix, point: NDArray[np.float64], spot: NDArray[np.float64]) -> Matrix:
    """Return `place`, shifted such that the source point lands on the spot of the clip."""
    moved = place.copy()
    moved[:2, 2] += spot - apply(place, point)
    return moved


def draw_view(
    zoom: float, corner: NDArray[np.float64], rng: np.random.Generator, *, size: int
) -> Matrix:
    """Draw a view enlarged by `zoom`, from `corner` (x, y) on, mirrored half of the time."""
    view = np.array([[zoom, 0.0, -corner[0]], [0.0, zoom, -corner[1]], [0.0, 0.0, 1.0]])
    return mirrored(view, size=size) if rng.random() < 0.5 else view


def draw_occluder(
    places: NDArray[np.float64],
    radius: float,
    picture: Pixels,
    rng: np.random.Generator,
    *,
    size: int,
) -> Layer:
    """Return a strip of a picture that passes over the target and hides it for 1 to 3 frames.

    `places` (F, 2) and `radius` are the target's in the clip.
    """
    height, width = picture.shape[:2]
    frames = len(places)
    hidden = int(rng.integers(1, 4))
    step = radius * rng.uniform(0.8, 1.8)
    wide = 2 * radius + step * hidden
    angle = rng.normal(0.0, 0.2) + (np.pi / 2 if rng.random() < 0.3 else 0.0)
    middle = rng.uniform(0.4, 0.8) * (frames - 1)
    direction = float(rng.choice([-1.0, 1.0])) * np.array([np.cos(angle), np.sin(angle)])
    shifts = places + (np.arange(frames) - middle)[:, None] * step * direction
    # Long enough to cross the clip at any slope, and as wide as it takes.
    zoom = max(3.0 * size / height, wide / width)
    columns = max(1, round(wide / zoom))
    left = int(rng.integers(0, width - columns + 1))
    picture = picture[:, left : left + columns]
    center = np.array([columns / 2, height / 2])
    scale = np.diag([zoom, zoom, 1.0])
    scale[:2, 2] = -zoom * center
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    path = np.tile(turn @ scale, (frames, 1, 1))
    path[:, :2, 2] += shifts
    return Layer(
        surface=join_alpha(picture, np.full((height, columns), 255, np.uint8)),
        mask=None,
        path=path,
        center=center,
        box=(0, 0, columns, height),
        shutter=draw_shutter(rng),
        traits=("occluder",),
    )


def measure_scale(matrix: Matrix) -> float:
    """Return how many times longer things become."""
    return float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))


def draw_shutter(rng: np.random.Generator) -> float:
    """Return the share of a frame's time that the shutter is open; most layers are sharp."""
    return float(rng.uniform(0.3, 1.0)) if rng.random() < 0.25 else 0.0
