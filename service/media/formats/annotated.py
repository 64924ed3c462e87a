"""A video with its masks: what every format of other tools is written from, and read as.

H and W are a frame's height and width; a mask is bool (H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.core.masks import bounding_box, overlay_masks

USUAL_FPS: Final = 24.0

File = tuple[str, bytes]  # a path below the folder that is written, and its content


def name_fault(error: Exception) -> str:
    """Return what is wrong with a document of which a member could not be read."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    if isinstance(error, IndexError):
        return "a list is too short"
    if isinstance(error, TypeError | AttributeError):
        return "a member is of another kind than it should be"
    return str(error)


class AnnotatedObject(NamedTuple):
    """One object in one frame; `state` is visible, lost or human, as the service tells it."""

    object_id: int
    mask: NDArray[np.bool_]
    confidence: float = 1.0
    state: str = "human"

    @property
    def area(self) -> int:
        """The number of its pixels."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> list[int]:
        """The box [x, y, width, height] around it in pixels."""
        return bounding_box(self.mask)


@dataclass(frozen=True, slots=True)
class AnnotatedFrame:
    """A frame by its number and the name of its picture in the source, with its objects.

    `time_s` counts from the source's first frame; `picture` gives the frame's RGB (H, W, 3), where
    it is at hand.
    """

    number: int
    image: str
    size: tuple[int, int]
    objects: tuple[AnnotatedObject, ...]
    time_s: float
    picture: Callable[[], NDArray[np.uint8]] | None = None

    @property
    def stem(self) -> str:
        """The name of what is written for this frame alone, without its suffix."""
        return PurePosixPath(self.image.replace("\\", "/")).stem

    def labels(self) -> NDArray[np.uint8]:
        """Return the label map (H, W); where masks overlap, the lowest id is seen."""
        return overlay_masks(((each.object_id, each.mask) for each in self.objects), self.size)

    def disjoint(self) -> Iterator[AnnotatedObject]:
        """Yield the objects that are seen in the label map, with the pixels that they have there.

        For formats that know no pixel of two objects.
        """
        labels = self.labels()
        for each in self.objects:
            mask = labels == each.object_id
            if mask.any():
                yield each._replace(mask=mask)


@dataclass(frozen=True, slots=True)
class AnnotatedVideo:
    """A video: its frames in order, the names of its objects by id, its frames a second.

    `frames` can be gone through again and again. `count` is the number of frames of the source,
    those without masks included.
    """

    name: str
    labels: Mapping[int, str]
    frames: Iterable[AnnotatedFrame]
    count: int
    fps: float = field(default=USUAL_FPS)
