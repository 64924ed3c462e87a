"""Layers of a made-up clip, and how they are drawn over one another.

A clip has F frames of size x size pixels. Masks hold 0 and 1, alpha 0 to 255.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import motion_kernel, recolor
from model.data.motion import Matrix, Path, Wave, Window, apply, map_sources
from model.data.static import Pixels

_SOLID = 128  # alpha from which a pixel belongs to the layer
_LONGEST_BLUR = 20  # pixels
_FAINT = 0.02  # share of a texture that is not worth drawing

Kernel = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cutout:
    """An object of a picture: image, mask, its box, its center (x, y) and extent in pixels."""

    image: Pixels
    mask: Pixels
    box: Window
    center: NDArray[np.float64]
    extent: float
    cropped: bool  # by the border of its picture
    kind: str | None = None

    @property
    def radius(self) -> float:
        """Return half the diagonal of its box."""
        return float(np.hypot(*self.box[2:])) / 2


@dataclass(frozen=True, slots=True)
class Texture:
    """Another surface (H, W, 4) that a layer takes on, by a share of 0 to 1 a frame, (F,)."""

    surface: Pixels
    shares: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Layer:  # decision 47
    """Something that moves as one.

    `surface` is (H, W, 4) with alpha, or (H, W, 3) where it is solid and fills the clip. `path`
    takes source pixels to clip pixels, frame by frame, and `wave` bends them; beyond `box` alpha
    is 0. `center` is the source point (x, y) whose speed blurs the layer while the shutter is
    open, `shutter` being that share of a frame's time. `mask` (H, W) says which object is where in
    a solid layer, 0 being none; a surface with alpha that has a mask is all object `label`. The
    target is object 1. `traits` name what was drawn to make it.
    """

    surface: Pixels
    mask: Pixels | None
    path: Path
    center: NDArray[np.float64]
    box: Window
    wave: Wave | None = None
    color: NDArray[np.float64] | None = None
    texture: Texture | None = None
    shutter: float = 0.0
    traits: tuple[str, ...] = ()
    label: int = 1

    @property
    def shown(self) -> int:
        """Return the object that a surface with alpha shows, 0 being none."""
        return 0 if self.mask is None else self.label

    @property
    def solid(self) -> bool:
        return self.surface.shape[2] == 3


def cut_out(image: Pixels, mask: Pixels, kind: str | None = None) -> Cutout:
    """Return the object of `mask` (not empty) with its measures."""
    x, y, width, height = cv2.boundingRect(mask)
    border = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    return Cutout(
        image=image,
        mask=mask,
        box=(x, y, width, height),
        center=np.array([x + (width - 1) / 2, y + (height - 1) / 2]),
        extent=float(np.sqrt(width * height)),
        cropped=bool(border.sum() > 0.15 * (width + height)),
        kind=kind,
    )


def soften(mask: Pixels) -> Pixels:
    """Return alpha of a mask: a thin soft edge, slightly inside, so that no old backdrop shows."""
    inside = cv2.erode(mask, np.ones((3, 3), np.uint8)) * np.uint8(255)
    return np.asarray(cv2.blur(inside, (3, 3)), dtype=np.uint8)


def join_alpha(image: Pixels, alpha: Pixels) -> Pixels:
    """Return the surface (H, W, 4) of an image (H, W, 3) and its alpha (H, W)."""
    return np.asarray(cv2.merge([*cv2.split(image), alpha]), dtype=np.uint8)


def blend(below: Pixels, above: Pixels, alpha: Pixels) -> Pixels:
    """Return `above` over `below`, weighted by alpha."""
    share = alpha.astype(np.float32) * np.float32(1 / 255)
    return np.asarray(cv2.blendLinear(above, below, share, 1 - share), dtype=np.uint8)


def find_first_mask(layers: Sequence[Layer], *, size: int) -> tuple[Pixels, Pixels]:
    """Return what is seen of the target in the first frame, and all of it, both (size, size)."""
    seen, whole = np.zeros((2, size, size), np.uint8)
    for layer in layers:
        window = None if layer.solid and layer.mask is None else _window(layer, 0, None, size=size)
        if window is None:
            continue
        points = _points(layer, 0, window)
        if layer.solid and layer.mask is not None:
            covered = _warp(layer.mask, layer, points, window, nearest=True) == 1
        else:
            alpha = cv2.extractChannel(layer.surface, 3)
            covered = _warp(np.asarray(alpha, np.uint8), layer, points, window) >= _SOLID
        within = _slices(window)
        seen[within][covered] = layer.shown == 1
        if layer.shown == 1:
            whole[within][covered] = 1
    return seen, whole


def render(layers: Sequence[Layer], moment: int, *, size: int) -> tuple[Pixels, Pixels]:
    """Return frame `moment`, uint8 (size, size, 3), and which object is where, (size, size)."""
    image, seen = np.zeros((size, size, 3), np.uint8), np.zeros((size, size), np.uint8)
    for layer in layers:
        _draw(layer, moment, image, seen)
    return image, seen


def render_over(
    image: Pixels, seen: Pixels, layers: Sequence[Layer], moment: int
) -> tuple[Pixels, Pixels]:
    """Return `image` (S, S, 3) and which object is `seen` where (S, S), with layers over them."""
    image, seen = image.copy(), seen.copy()
    for layer in layers:
        _draw(layer, moment, image, seen)
    return image, seen


def _draw(layer: Layer, moment: int, image: Pixels, seen: Pixels) -> None:
    """Draw one layer into the frame and into which object is seen where."""
    kernel = _blur(layer, moment)
    window = _window(layer, moment, kernel, size=len(seen))
    if window is None:
        return
    points = _points(layer, moment, window)
    surface = _warp(layer.surface, layer, points, window)
    if layer.texture is not None and layer.texture.shares[moment] > _FAINT:
        share = float(layer.texture.shares[moment])
        other = _warp(layer.texture.surface, layer, points, window)
        surface = np.asarray(cv2.addWeighted(other, share, surface, 1.0 - share, 0.0), np.uint8)
    if kernel is not None:
        surface = np.asarray(cv2.filter2D(surface, -1, kernel), np.uint8)
    if layer.solid:
        image[:] = _colored(surface, layer, moment)
        if layer.mask is not None:
            seen[:] = _warp(layer.mask, layer, points, window, nearest=True)
        return
    within = _slices(window)
    alpha = np.asarray(cv2.extractChannel(surface, 3), np.uint8)
    picture = np.asarray(cv2.cvtColor(surface, cv2.COLOR_RGBA2RGB), np.uint8)
    image[within] = blend(image[within], _colored(picture, layer, moment), alpha)
    seen[within][alpha >= _SOLID] = layer.shown


def _colored(picture: Pixels, layer: Layer, moment: int) -> Pixels:
    return picture if layer.color is None else recolor(picture, layer.color[moment])


def _window(layer: Layer, moment: int, kernel: Kernel | None, *, size: int) -> Window | None:
    """Return the part of the clip that the layer can reach in a frame, or None."""
    if layer.solid:
        return 0, 0, size, size
    bent = 0.0 if layer.wave is None else layer.wave.reach
    spread = 2 + (0 if kernel is None else len(kernel) // 2)
    x, y, width, height = layer.box
    (a, b, left), (c, d, top) = layer.path[moment][:2].tolist()
    # Half the box's sides, and where its middle lands.
    half_x, half_y = width / 2 + bent, height / 2 + bent
    middle_x, middle_y = x + width / 2, y + height / 2
    across, down = abs(a) * half_x + abs(b) * half_y, abs(c) * half_x + abs(d) * half_y
    at_x, at_y = a * middle_x + b * middle_y + left, c * middle_x + d * middle_y + top
    left, right = max(0, floor(at_x - across) - spread), min(size, ceil(at_x + across) + spread)
    top, bottom = max(0, floor(at_y - down) - spread), min(size, ceil(at_y + down) + spread)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def _slices(window: Window) -> tuple[slice, slice]:
    left, top, width, height = window
    return slice(top, top + height), slice(left, left + width)


def _blur(layer: Layer, moment: int) -> Kernel | None:
    """Return the kernel of what the layer's center does while the shutter is open, or None."""
    if not layer.shutter or len(layer.path) < 2:
        return None
    before = max(0, moment - 1)
    shift = apply(layer.path[before + 1], layer.center) - apply(layer.path[before], layer.center)
    return motion_kernel(layer.shutter * shift, longest=_LONGEST_BLUR)


def _points(layer: Layer, moment: int, window: Window) -> NDArray[np.float32]:
    """Return how to warp the layer: a map (h, w, 2) where it bends, else a matrix (2, 3)."""
    matrix = layer.path[moment]
    if layer.wave is not None:
        inverse = np.asarray(cv2.invertAffineTransform(matrix[:2]))
        return map_sources(inverse, layer.wave, moment, window=window)
    shifted: Matrix = matrix.copy()
    shifted[:2, 2] -= window[:2]
    return shifted[:2].astype(np.float32)


def _warp(
    pixels: Pixels,
    layer: Layer,
    points: NDArray[np.float32],
    window: Window,
    *,
    nearest: bool = False,
) -> Pixels:
    """Return source pixels as the window sees them; a solid layer is mirrored at its border."""
    flags = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
    border = cv2.BORDER_REFLECT_101 if layer.solid else cv2.BORDER_CONSTANT
    if layer.wave is None:
        warped = cv2.warpAffine(pixels, points, window[2:], flags=flags, borderMode=border)
    else:
        # One map holds both coordinates; the stub does not know that the other may be None.
        warped = cv2.remap(pixels, points, None, flags, borderMode=border)  # type: ignore[call-overload]
    return np.asarray(warped, dtype=np.uint8)
