"""Things that stand before what they never stood before: cut-outs and drawn shapes, pasted.

Stills show things where they belong. Drawn, rendered and composed pictures do not, and a click in
them means what differs from all around it. S is a view's side.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.data.augment import draw_color, recolor
from model.data.static import Pixels

SMALLEST, LARGEST = 0.07, 0.85  # of a view's side: a pasted thing
SHAPES = 0.4  # of pasted things are drawn: an ellipse or a polygon with a picture's texture


class Cutting(NamedTuple):
    """A thing to paste: its picture uint8 (H, W, 3) and mask uint8 {0, 1} (H, W)."""

    image: Pixels
    mask: Pixels


def draw_backdrop(image: Pixels, rng: np.random.Generator, *, side: int) -> Pixels:
    """Return a part of a picture, now and then a tiny one, at (S, S, 3)."""
    height, width = image.shape[:2]
    span = max(4, round(min(height, width) * np.exp(rng.uniform(np.log(0.15), 0))))
    top, left = (int(rng.integers(0, size - span + 1)) for size in (height, width))
    part = image[top : top + span, left : left + span]
    if rng.random() < 0.1:
        part = part[:1, :1]  # of one color
    return np.asarray(cv2.resize(part, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def draw_shape(image: Pixels, rng: np.random.Generator) -> Cutting:
    """Return an ellipse or a polygon that shows a part of a picture."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    center = rng.uniform(0.3, 0.7, 2) * (width, height)
    reach = rng.uniform(0.15, 0.3, 2) * min(height, width)
    if rng.random() < 0.5:
        reach[1] = reach[0] if rng.random() < 0.5 else reach[1]  # often a circle
        box = (center.tolist(), (2 * reach).tolist(), float(rng.uniform(0, 180)))
        cv2.ellipse(mask, box, 1, thickness=-1)
        return Cutting(image, mask)
    corners = int(rng.integers(3, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    rays = np.stack([np.cos(angles), np.sin(angles)], axis=1) * rng.uniform(0.4, 1, (corners, 1))
    cv2.fillPoly(mask, [(center + rays * reach).round().astype(np.int32)], 1)
    return Cutting(image, mask)


def paste(
    backdrop: Pixels, cutting: Cutting, rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return a backdrop (S, S, 3) with a thing pasted somewhere, turned, scaled and recolored.

    With it comes what of the thing is seen, uint8 {0, 1} (S, S).
    """
    side = backdrop.shape[0]
    x, y, width, height = cv2.boundingRect(cutting.mask)
    span = side * np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST)))
    scale = span / max(width, height, 1)
    angle = rng.uniform(-180, 180) if rng.random() < 0.4 else rng.uniform(-15, 15)
    matrix = cv2.getRotationMatrix2D((x + width / 2, y + height / 2), angle, scale)
    room = max(0.0, side - span)
    matrix[:, 2] += rng.uniform(0, room, 2) + span / 2 - (x + width / 2, y + height / 2)
    size = (side, side)
    flags = cv2.INTER_AREA if scale < 0.7 else cv2.INTER_LINEAR
    thing = cv2.warpAffine(cutting.image, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT)
    mask = cv2.warpAffine(cutting.mask * 255, matrix, size, flags=cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        thing = recolor(
            np.asarray(thing, np.uint8), draw_color(rng, frames=1, start=1.0, drift=0.0)[0]
        )
    if rng.random() < 0.15:  # of other colors altogether
        thing = thing[..., rng.permutation(3)]
    alpha = cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 1.0))[..., None].astype(np.float32)
    mixed = backdrop + (thing.astype(np.float32) - backdrop) * (alpha / 255)
    return mixed.round().astype(np.uint8), (mask > 127).astype(np.uint8)
