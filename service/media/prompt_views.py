"""How a prompt graph is shown a picture: the whole of it, or the part that matters, enlarged.

The graph sees pictures of one size. So what is pointed at is looked at closely: the box with what
is around it, or the mask so far. A first click says nothing of how large its object is, so the
whole picture is looked at first, and then the part in which something was found.

Pure and blocking: run it in the thread pool. H, W are the picture's size, h, w the graph's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.masks import bounding_box
from model.core.pixels import model_size, resize_frame
from model.core.prompt_contract import (
    BOX_END,
    BOX_START,
    ON_BACKGROUND,
    ON_OBJECT,
    PADDING,
    PromptSpec,
)

AROUND: Final = 0.3  # of what is looked at closely: how much beside it is shown, on each side
SMALLEST: Final = 48  # pixels of the picture that are shown at least
MOSTLY: Final = 0.5  # of a part, in the mask so far: it stays
WORTH: Final = 0.6  # of the picture: a part that is larger is not looked at once more

Mask = NDArray[np.bool_]
Window = tuple[int, int, int, int]  # left, top, right, bottom


class PromptModel(Protocol):
    """A model's prompt graph."""

    @property
    def spec(self) -> PromptSpec: ...

    def __call__(
        self,
        image: NDArray[np.uint8],
        points: NDArray[np.float32],
        labels: NDArray[np.int32],
        previous: NDArray[np.uint8],
        /,
    ) -> tuple[NDArray[np.uint8], float]:
        """Return the soft mask (h, w) of what is pointed at, and its score, 0..1."""
        ...


class PromptViewer:
    """Points a prompt graph at things in one picture, uint8 (H, W, 3)."""

    def __init__(self, model: PromptModel, rgb: NDArray[np.uint8]) -> None:
        self._model, self._rgb = model, rgb
        self._size = rgb.shape[:2]

    def find_in_box(
        self, inside: Mask, points: Sequence[tuple[float, float]], wanted: Sequence[bool]
    ) -> tuple[Mask, float]:
        """Return the mask of what a box holds, and its score; `inside` (H, W) is the box."""
        x, y, width, height = bounding_box(inside)
        corners = [(x, y), (x + width - 1, y + height - 1)]
        labels = [BOX_START, BOX_END, *map(label_touch, wanted)]
        window = self.show_around(x, y, x + width, y + height)
        nothing = np.zeros(self._size, np.bool_)
        return self.look(window, [*corners, *points], labels, nothing)

    def find(
        self, points: Sequence[tuple[float, float]], wanted: Sequence[bool], previous: Mask
    ) -> tuple[Mask, float]:
        """Return the mask of what was clicked, and its score; `previous` (H, W) is that so far."""
        labels = [label_touch(each) for each in wanted]
        clicked = [point for point, on_it in zip(points, wanted, strict=True) if on_it]
        if previous.any():
            mask, score = self.look(self.show_mask(previous, points), points, labels, previous)
            return keep_meant(mask, clicked, previous), score
        height, width = self._size
        mask, score = self.look((0, 0, width, height), points, labels, previous)
        mask = keep_meant(mask, clicked, previous)
        if not mask.any():
            return mask, score
        left, top, right, bottom = window = self.show_mask(mask, points)
        if (right - left) * (bottom - top) > WORTH * height * width:
            return mask, score
        closer, sure = self.look(window, points, labels, mask)
        return (keep_meant(closer, clicked, previous), sure) if closer.any() else (mask, score)

    def show_mask(self, mask: Mask, points: Sequence[tuple[float, float]]) -> Window:
        """Return the window that shows a mask, all points, and what is around them."""
        x, y, width, height = bounding_box(mask)
        columns, rows = zip(*points, strict=True) if points else ((), ())
        return self.show_around(
            *(min((x, *columns)), min((y, *rows))),
            *(max((x + width, *columns)), max((y + height, *rows))),
        )

    def show_around(self, left: float, top: float, right: float, bottom: float) -> Window:
        """Return the window around a box, as far as the picture goes."""
        spans = []
        for low, high, size in ((left, right, self._size[1]), (top, bottom, self._size[0])):
            margin = AROUND * max(right - left, bottom - top)
            margin = max(margin, (SMALLEST - (high - low)) / 2)
            spans.append((max(0, int(low - margin)), min(size, int(np.ceil(high + margin)))))
        (left, right), (top, bottom) = spans
        return int(left), int(top), int(right), int(bottom)

    def look(
        self,
        window: Window,
        points: Sequence[tuple[float, float]],
        labels: Sequence[int],
        previous: Mask,
    ) -> tuple[Mask, float]:
        """Return the mask (H, W) after a look at a window, and its score.

        With a mask so far it is the mean of two looks, one of which does not see it.
        Outside of the window it is as `previous` was; points that lie there are not shown.
        """
        left, top, right, bottom = window
        spec, part = self._model.spec, (slice(top, bottom), slice(left, right))
        wide, high = right - left, bottom - top
        size = model_size(
            high,
            wide,
            short_side=spec.short_side,
            max_ratio=spec.max_ratio,
            multiple=spec.multiple,
        )
        scale = np.array([size[1] / wide, size[0] / high])
        places = (np.array(points).reshape(-1, 2) - (left, top) + 0.5) * scale - 0.5
        seen = ((places >= -1) & (places <= (size[1], size[0]))).all(axis=1)
        kept = np.where(seen, np.array(labels), PADDING).astype(np.int32)
        before = resize_frame(previous[part].astype(np.uint8) * np.uint8(255), size)
        image = resize_frame(self._rgb[part], size)
        soft, score = self._model(image, places.astype(np.float32), kept, before)
        if before.any() and (kept > ON_BACKGROUND).any():
            # The graph leans on the mask so far, mistakes and all: without it, it makes others.
            nothing = np.zeros_like(before)
            fresh, sure = self._model(image, places.astype(np.float32), kept, nothing)
            soft = np.asarray(cv2.addWeighted(soft, 0.5, fresh, 0.5, 0), np.uint8)
            score = (score + sure) / 2
        mask = previous.copy()
        mask[part] = cv2.resize(soft, (wide, high), interpolation=cv2.INTER_LINEAR) > 127
        return mask, score


def keep_meant(mask: Mask, clicked: Sequence[tuple[float, float]], previous: Mask) -> Mask:
    """Return the parts of a mask that are clicked, or were in the mask so far for the most part.

    One of two like things is meant, not both. Where there is no such part all are kept.
    """
    count, parts = cv2.connectedComponents(mask.view(np.uint8))
    areas = np.bincount(parts.ravel(), minlength=count)
    kept = np.bincount(parts[previous], minlength=count) >= MOSTLY * areas
    height, width = mask.shape
    for x, y in clicked:
        kept[parts[min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)]] = True
    kept[0] = False  # what is not of the mask
    return kept[parts] if kept.any() else mask


def label_touch(wanted: bool) -> int:
    """Return what a touch tells the graph."""
    return ON_OBJECT if wanted else ON_BACKGROUND
