"""What the Python client takes and gives: frozen values, read strictly from the service's JSON.

H and W are a frame's height and width. Members that a newer service adds are ignored.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model.core.encoding import decode_polygons, decode_rle
from model.core.masks import overlay_masks

# An encoded image, a file that holds one, or a picture: uint8 RGB (H, W, 3).
Image: TypeAlias = bytes | Path | NDArray[np.uint8]
# A PNG, a file that holds one, or an array (H, W): object ids, or one object's pixels.
Mask: TypeAlias = bytes | Path | NDArray[np.uint8] | NDArray[np.bool_]


class Value(BaseModel):
    """A frozen value of the API."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Rle(Value):
    """COCO's compressed run-length encoding; `size` is (H, W)."""

    size: tuple[int, int]
    counts: str


class ObjectPrompt(Value):
    """One object as the client gives it: an RLE, or polygons or a box [x, y, width, height]."""

    object_id: int = Field(validation_alias="id", serialization_alias="id")
    label: str | None = None
    rle: Rle | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    box: tuple[float, float, float, float] | None = None


class Options(Value):
    """Settings of a session; what is None is the service's choice."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: bool | None = None
    labels: dict[int, str] | None = None


class SessionObject(Value):
    """An object of a session."""

    object_id: int = Field(validation_alias="id")
    label: str | None = None


class Session(Value):
    """A session as the service sees it; `frame_size` is (H, W).

    `weights_sha256` is the hash of the weights that made its newest masks.
    """

    session_id: str
    model: str
    weights_sha256: str = ""  # empty where the service does not tell
    frame_size: tuple[int, int]
    objects: tuple[SessionObject, ...]
    clip_length: int
    memory_size: int
    memory_gate: bool = False
    next_frame: int
    expires_at: datetime


class ObjectMask(Value):
    """One object in one frame; `bbox` is [x, y, width, height].

    `confidence` is the probability that the object is there and its mask good; `state` is
    `visible`, `lost`, `human` or `dropped`.
    """

    object_id: int = Field(validation_alias="id")
    rle: Rle | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    area: int
    bbox: tuple[float, float, float, float]
    confidence: float
    state: str

    def mask(self, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
        """The object's pixels, bool (H, W); exact from an RLE, nearly so from polygons."""
        if self.rle is not None:
            return decode_rle(self.rle.model_dump())
        polygons = [list(polygon) for polygon in self.polygons or ()]
        return decode_polygons(polygons, frame_size)


class FrameMasks(Value):
    """Every object's mask in one frame."""

    frame: int
    objects: tuple[ObjectMask, ...]

    def label_map(self, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
        """All objects in one image of their ids, uint8 (H, W); 0 is background.

        Where masks overlap, as those that were given may, the lowest id is seen.
        """
        seen = (item for item in self.objects if item.area)
        return overlay_masks(((item.object_id, item.mask(frame_size)) for item in seen), frame_size)


class StreamedMasks(FrameMasks):
    """The masks of a frame that was streamed; those replayed after a resume have no times.

    `timestamp` is the frame's own in microseconds, `timing` in milliseconds by the service's
    clock, and `png` the label map where it was asked for.
    """

    timestamp: int | None = None
    timing: dict[str, float] = Field(default_factory=dict)
    png: bytes | None = None


class TimedImage(NamedTuple):
    """An image with a timestamp in microseconds, below 2^53, that comes back with its masks."""

    image: Image
    timestamp_us: int


class Progress(Value):
    """How far a stream is, in frames; `connections` counts the first one and each resume."""

    answered: int = 0
    dropped: int = 0
    connections: int = 0


class Appended(Value):
    """The answer to an append; `timing` is in milliseconds, by the service's clock."""

    first_frame: int
    frames: tuple[FrameMasks, ...]
    next_frame: int
    timing: dict[str, float] = Field(default_factory=dict)


class MaskPage(Value):
    """Stored masks, at most 500 frames; `next` is the address of the following page."""

    frames: tuple[FrameMasks, ...]
    next: str | None = None


class Model(Value):
    """A model that the service serves, with the defaults and limits of its sessions."""

    name: str
    short_side: int
    clip_length: int
    max_clip_length: int
    memory_size: int
    max_memory_size: int
    memory_gate: bool = False
    lost_below: float | None = None  # confidence below which an object is lost; None: no pixel
    max_objects: int
    weights_sha256: str
    license: str
