"""The shapes of requests and answers: what is read strictly, and what OpenAPI documents.

Answers are written as plain dictionaries (`answers.py`): their models here are documentation, and
a test compares the two.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from service.sessions.responses import MaskFormat

ObjectId = Annotated[int, Field(ge=1, le=254)]
Label = Annotated[str, Field(min_length=1, max_length=100)]
Box = Annotated[list[float], Field(min_length=4, max_length=4)]


class Strict(BaseModel):
    """Something a client sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RleIn(Strict):
    """COCO's compressed run-length encoding; size is [height, width]."""

    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str


class ObjectIn(Strict):
    """One object: exactly one of rle, polygons and box."""

    id: ObjectId
    label: Label | None = None
    rle: RleIn | None = None
    polygons: list[list[float]] | None = None
    box: Box | None = None


class OptionsIn(Strict):
    """The choices of a session; what is left out is the model's default."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: Annotated[
        bool | None, Field(description="do not remember objects in frames where they are lost")
    ] = None
    labels: dict[Annotated[str, Field(pattern="^[1-9][0-9]{0,2}$")], Label] = {}


BOX = TypeAdapter(Box)
OBJECTS = TypeAdapter(list[ObjectIn])
OPTIONS = TypeAdapter(OptionsIn)


class AppendQuery(Strict):
    """Where an append begins, and how its masks are written."""

    first_frame: Annotated[int, Field(ge=0, lt=2**53, description="number of the first frame")]
    format: MaskFormat = "rle"
    skip: Annotated[int, Field(ge=0, lt=2**31, description="pictures of a video to leave out")] = 0
    count: Annotated[
        int | None, Field(ge=1, lt=2**31, description="pictures of a video to take")
    ] = None


class MasksQuery(Strict):
    """Which masks, both ends included, and how they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    first: Annotated[int, Field(alias="from", ge=0, lt=2**53)] = 0
    last: Annotated[int | None, Field(alias="to", ge=0, lt=2**53)] = None
    format: Literal["rle", "polygons", "png"] = "rle"


class CorrectQuery(Strict):
    """Which frame is corrected, if it is to be checked, and how its masks are written."""

    frame: Annotated[
        int | None, Field(ge=0, lt=2**53, description="409 unless this is the newest frame")
    ] = None
    format: MaskFormat = "rle"


class ForkQuery(Strict):
    """Where a fork begins."""

    at: Annotated[
        int | None, Field(ge=0, lt=2**53, description="last frame of a clip; none: as it is now")
    ] = None


class NoQuery(Strict):
    """No parameter."""


class Rle(BaseModel):
    """COCO's compressed run-length encoding; size is [height, width]."""

    size: tuple[int, int]
    counts: str


class RefinedOut(BaseModel):
    """What stands out inside of a box; bbox is [x, y, width, height]."""

    rle: Rle
    area: int
    bbox: tuple[int, int, int, int]


class SessionObject(BaseModel):
    id: int
    label: str | None


class SessionOut(BaseModel):
    """A session as it is committed; frame_size is [height, width].

    `weights_sha256` is the hash of the weights that made its newest masks.
    """

    session_id: str
    model: str
    weights_sha256: str
    frame_size: tuple[int, int]
    objects: list[SessionObject]
    clip_length: int
    memory_size: int
    memory_gate: bool
    next_frame: int
    expires_at: datetime


class ObjectMaskOut(BaseModel):
    """One object in one frame: rle or polygons, as asked for; bbox is [x, y, width, height].

    `confidence` is the probability that the object is there and its mask good (an IoU of at least
    0.5 with the true one). Where it is below the model's threshold, or there is no pixel, the
    state is `lost`; the mask is what the model says all the same.
    """

    id: int
    rle: Rle | None = None
    polygons: list[list[float]] | None = None
    area: int
    bbox: tuple[int, int, int, int]
    confidence: Annotated[float, Field(ge=0, le=1)]
    state: Literal["visible", "lost", "human", "dropped"]


class FrameMasksOut(BaseModel):
    frame: int
    objects: list[ObjectMaskOut]


class AppendedOut(BaseModel):
    """The masks of an append; timing is in milliseconds by stage, on the service's clock.

    `batch_sizes` are, for each clip that was run, how many clips the model ran together.
    """

    first_frame: int
    frames: list[FrameMasksOut]
    next_frame: int
    timing: dict[str, float]
    batch_sizes: list[int]


class CorrectedOut(FrameMasksOut):
    """The newest frame with its corrected masks."""

    next_frame: int


class MasksOut(BaseModel):
    """A page of masks; `next` is the address of the following page, null on the last one."""

    frames: list[FrameMasksOut]
    next: str | None


class ModelOut(BaseModel):
    """A model that is served, with the defaults and limits of its sessions."""

    name: str
    short_side: int
    clip_length: int
    max_clip_length: int
    memory_size: int
    max_memory_size: int
    memory_gate: bool
    lost_below: float | None
    max_objects: int
    weights_sha256: str
    license: str


class ModelsOut(BaseModel):
    models: list[ModelOut]


class StatusOut(BaseModel):
    status: Literal["ok", "ready"]
