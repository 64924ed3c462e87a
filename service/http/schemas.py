"""The shapes of what the service reads, strictly. What it answers is in `tamvt_client.messages`."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter

from model.core.encoding import MAX_COUNTS, MAX_POINTS
from service.access.parameters import DIGITS
from tamvt_client.messages import MaskFormat

# Marks that turn the direction of what follows them: a label could show as another.
DIRECTIONS: Final = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def check_label(label: str) -> str:
    """Return the label; raise ValueError for control characters and marks of direction."""
    if any(sign in DIRECTIONS or unicodedata.category(sign) in ("Cc", "Cs") for sign in label):
        raise ValueError("a label has no control characters and no marks of direction")
    return label


ObjectId = Annotated[int, Field(ge=1, le=254)]
Label = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(check_label)]
Box = Annotated[list[float], Field(min_length=4, max_length=4, fail_fast=True)]
# Lists end at their first error: there may be a million of them.
Polygon = Annotated[list[float], Field(max_length=2 * MAX_POINTS, fail_fast=True)]
Polygons = Annotated[list[Polygon], Field(max_length=MAX_POINTS // 3, fail_fast=True)]
Runs = Annotated[list[int], Field(max_length=MAX_COUNTS, fail_fast=True)]


class Strict(BaseModel):
    """Something a client sends: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RleIn(Strict):
    """COCO's run-length encoding, compressed or as a list of runs; size is [height, width]."""

    size: Annotated[list[int], Field(min_length=2, max_length=2, fail_fast=True)]
    counts: Annotated[str, Field(max_length=MAX_COUNTS)] | Runs


class ObjectIn(Strict):
    """One object: exactly one of rle, polygons and box."""

    id: ObjectId
    label: Label | None = None
    rle: RleIn | None = None
    polygons: Polygons | None = None
    box: Box | None = None


class OptionsIn(Strict):
    """The choices of a session; what is left out is the model's default."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: Annotated[
        bool | None, Field(description="do not remember objects in frames where they are lost")
    ] = None
    short_side: Annotated[
        int | None,
        Field(description="at which the model sees frames; chosen by the width of the objects"),
    ] = None
    labels: dict[Annotated[str, Field(pattern="^[1-9][0-9]{0,2}$")], Label] = {}


class StrokeIn(Strict):
    """A line of a pen, [x0, y0, x1, y1, ...]; label 1 is on the object, 0 on what is not of it."""

    points: Annotated[list[float], Field(min_length=2, max_length=4_000, fail_fast=True)]
    label: Literal[0, 1] = 1


Point = Annotated[list[float], Field(min_length=3, max_length=3, fail_fast=True)]

BOX = TypeAdapter(Box)
POINTS = TypeAdapter(Annotated[list[Point], Field(max_length=1_000, fail_fast=True)])
STROKES = TypeAdapter(Annotated[list[StrokeIn], Field(max_length=1_000, fail_fast=True)])
POLYGON = TypeAdapter(Polygon)
RLE = TypeAdapter(RleIn)
OBJECTS = TypeAdapter(Annotated[list[ObjectIn], Field(max_length=254, fail_fast=True)])
OPTIONS = TypeAdapter(OptionsIn)


FrameNumber = Annotated[int, Field(ge=0, lt=2**53), DIGITS]
Pictures = Annotated[int, Field(ge=1, lt=2**31), DIGITS]


class AppendQuery(Strict):
    """Where an append begins, and how its masks are written."""

    first_frame: Annotated[FrameNumber, Field(description="number of the first frame")]
    format: MaskFormat = "rle"
    skip: Annotated[
        int, Field(ge=0, lt=2**31, description="pictures of a video to leave out"), DIGITS
    ] = 0
    count: Annotated[Pictures | None, Field(description="pictures of a video to take")] = None


class SessionsQuery(Strict):
    """Which of the tenant's sessions: those whose ids come after `after`."""

    after: Annotated[str, Field(max_length=64, pattern="^[A-Za-z0-9_-]*$")] = ""
    limit: Annotated[int, Field(ge=1, le=100), DIGITS] = 50


class MasksQuery(Strict):
    """Which masks, both ends included, and how they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    first: Annotated[FrameNumber, Field(alias="from")] = 0
    last: Annotated[FrameNumber | None, Field(alias="to")] = None
    format: Literal["rle", "polygons", "png"] = "rle"


class CorrectQuery(Strict):
    """Which frame is corrected, if it is to be checked, and how its masks are written."""

    frame: Annotated[
        FrameNumber | None, Field(description="409 unless this is the newest frame")
    ] = None
    format: MaskFormat = "rle"


class ForkQuery(Strict):
    """Where a fork begins."""

    at: Annotated[
        FrameNumber | None, Field(description="last frame of a clip; none: as it is now")
    ] = None


class NoQuery(Strict):
    """No parameter."""
