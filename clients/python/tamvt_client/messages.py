"""The messages between client and service, each defined once: the service writes them, we read.

What the service answers over REST (`...Out`, the names in its OpenAPI), what it says on a stream
(`...Message`), and what a client gives. Values are frozen; sizes are (H, W), a frame's height and
width. Members that a newer service adds are ignored.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    TypeAdapter,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema

from tamvt_client.masks import Rle, decode_polygons, decode_rle, overlay_masks

MaskFormat: TypeAlias = Literal["rle", "polygons"]
ObjectState: TypeAlias = Literal["visible", "lost", "human", "dropped"]
Seconds: TypeAlias = Annotated[
    datetime,
    PlainSerializer(lambda moment: moment.isoformat(timespec="seconds"), return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]


class Message(BaseModel):
    """A frozen value; what it does not know is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    def to_json(self) -> bytes:
        """Return compact JSON of the members that were given."""
        # Validated once, at construction: what it is made of needs no second look.
        return self.__pydantic_serializer__.to_json(self, by_alias=True, exclude_unset=True)


# REST answers. Their docstrings are the descriptions in OpenAPI.


class RefinedOut(Message):
    """The mask that is meant; bbox is [x, y, width, height].

    `score` (0..1) says how good it is likely to be, `parts` in how many pieces it is; `warnings`
    are sentences that say why it may be no good, and what to do. `made_by` is `grabcut`, or the
    name of the model's graph that made it.
    """

    rle: Rle
    area: int
    bbox: tuple[int, int, int, int]
    score: float = 1.0
    parts: int = 1
    warnings: tuple[str, ...] = ()
    made_by: str = "grabcut"

    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels, bool (H, W)."""
        return decode_rle(self.rle)


class SessionObject(Message):
    # An object of a session.
    object_id: int = Field(validation_alias="id", serialization_alias="id")
    label: str | None


class SessionOut(Message):
    """A session as it is committed; frame_size is [height, width].

    `weights_sha256` is the hash of the weights that made its newest masks, `runtime` what ran them
    and in which precision (`openvino/bf16`), empty before the first clip. `state_rebuilt_at` is the
    frame before which a model's own state was made anew, since the stored one could not be read.
    `notes`, in the answer to a start, say which objects a mask image shows, what had to be decided
    to read it, and what was cut off at the frame.
    """

    session_id: str
    model: str
    weights_sha256: str
    runtime: str = ""
    frame_size: tuple[int, int]
    model_size: tuple[int, int] | None = None
    objects: tuple[SessionObject, ...]
    clip_length: int
    memory_size: int
    memory_gate: bool
    next_frame: int
    state_rebuilt_at: int | None = None
    expires_at: Seconds
    notes: tuple[str, ...] = ()


class ObjectMaskOut(Message):
    """One object in one frame: rle or polygons, as asked for; bbox is [x, y, width, height].

    `confidence` is the probability that the object is there and its mask good (an IoU of at least
    0.5 with the true one). Where it is below the model's threshold, or there is no pixel, the
    state is `lost`; the mask is what the model says all the same.
    """

    object_id: int = Field(validation_alias="id", serialization_alias="id")
    rle: Rle | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    area: int
    bbox: tuple[int, int, int, int]
    confidence: Annotated[float, Field(ge=0, le=1)]
    state: ObjectState

    def mask(self, frame_size: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the object's pixels, bool (H, W): exact from an RLE; polygons fill holes."""
        if self.rle is not None:
            return decode_rle(self.rle)
        return decode_polygons(self.polygons or (), frame_size)


class FrameMasksOut(Message):
    # Every object's mask in one frame.
    frame: int
    objects: tuple[ObjectMaskOut, ...]

    def label_map(self, frame_size: tuple[int, int]) -> NDArray[np.uint8]:
        """Return all objects in one image of their ids, uint8 (H, W); 0 is background.

        Where masks overlap, as those that were given may, the lowest id is seen.
        """
        visible = (item for item in self.objects if item.area)
        return overlay_masks(
            ((item.object_id, item.mask(frame_size)) for item in visible), frame_size
        )


class AppendedOut(Message):
    """The masks of an append; timing is in milliseconds by stage, on the service's clock.

    `batch_sizes` are, for each clip that was run, how many clips the model ran together.
    """

    first_frame: int
    frames: tuple[FrameMasksOut, ...]
    next_frame: int
    timing: dict[str, float]
    batch_sizes: tuple[int, ...]


class CorrectedOut(FrameMasksOut):
    """The newest frame with its corrected masks; `notes` are as of a session's start."""

    next_frame: int
    notes: tuple[str, ...] = ()


class SessionsOut(Message):
    """A page of sessions; `next` is the address of the following page, null on the last one."""

    sessions: tuple[SessionOut, ...]
    next: str | None


class MasksOut(Message):
    """A page of masks; `next` is the address of the following page, null on the last one."""

    frames: tuple[FrameMasksOut, ...]
    next: str | None


class MeasuredOut(Message):
    """What was measured of a model: how far its graphs are from PyTorch, what a frame costs, J.

    `parity` is the largest difference of a soft mask, of 255, `agreement` the share of pixels with
    equal labels. `macs` are the multiply-adds of a frame with one object and a full memory.
    `dev_j` is J in percent on the six videos that models are chosen with. Null: not measured.
    """

    parity: int | None = None
    agreement: float | None = None
    parameters: int | None = None
    macs: int | None = None
    dev_j: float | None = None


class ModelOut(Message):
    """A model that is served, with the defaults and limits of its sessions.

    `runtime` is what runs it and in which precision: `onnxruntime/fp32`, `openvino/bf16`, `triton`.
    `entry_bytes` are those of one entry of one object in a bank, at the first size that is served,
    `state_bytes` those of what the model carries from clip to clip. An `experimental` model was
    measured to follow badly.
    """

    name: str
    short_side: int
    fine_short_sides: tuple[int, ...] = ()
    clip_length: int
    max_clip_length: int
    memory_size: int
    max_memory_size: int
    memory_gate: bool
    lost_below: float | None
    max_objects: int
    weights_sha256: str
    runtime: str = ""
    license: str
    capabilities: tuple[str, ...] = ()
    entry_bytes: int = 0
    state_bytes: int = 0
    experimental: bool = False
    measured: MeasuredOut | None = None


class ModelsOut(Message):
    # The first one is the default.
    models: tuple[ModelOut, ...]


class StatusOut(Message):
    # /healthz and /readyz.
    status: Literal["ok", "ready"]


class TicketOut(Message):
    """A ticket that opens one stream, once, within so many seconds."""

    ticket: str
    expires_in_s: float


class ProblemReason(Message):
    """What is wrong with one parameter of a request."""

    where: str
    message: str


def _as_sent(schema: dict[str, Any]) -> None:
    """Describe in OpenAPI what the service sends: three members always, the others or nothing."""
    schema["required"] = ["type", "title", "status"]
    for member in schema["properties"].values():
        member.pop("default", None)


class Problem(BaseModel):
    """An error, as RFC 9457 defines it. docs/api.md lists the types."""

    # Members that a newer service adds are in `model_extra`.
    model_config = ConfigDict(frozen=True, extra="allow", json_schema_extra=_as_sent)

    type: Annotated[str, Field(examples=["/problems/frame-ahead"])] = "about:blank"
    title: str = ""
    status: int
    detail: str = ""
    instance: str | SkipJsonSchema[None] = None
    expected: Annotated[
        int | SkipJsonSchema[None], Field(description="the frame number that comes next")
    ] = None
    oldest: Annotated[
        int | SkipJsonSchema[None], Field(description="the oldest frame possible")
    ] = None
    limit: Annotated[int | SkipJsonSchema[None], Field(description="what is allowed")] = None
    session_id: str | SkipJsonSchema[None] = None
    retry_after_s: float | SkipJsonSchema[None] = None
    errors: tuple[ProblemReason, ...] | SkipJsonSchema[None] = None


# What the service says on a stream (docs/stream.md).


class ReadyMessage(Message):
    """The first message: `credits` frames may be unanswered; None: no count is kept."""

    type: Literal["ready"]
    next_frame: int
    credits: int | None


class StreamedMasks(FrameMasksOut):
    """The masks of a frame that was streamed; those replayed after a resume have no times.

    `timestamp` is the frame's own in microseconds, `timing` in milliseconds by the service's
    clock, and `png` the label map where it was asked for: the client adds it. Where the stream
    commits at intervals, `durable` is the newest frame that survives a failure, with all before
    it, and `clip` the first and the last frame of the clip in which this one was processed.
    """

    type: Literal["masks"] = "masks"
    timestamp: int | None
    timing: dict[str, float]
    durable: int | None = None
    clip: tuple[int, int] | None = None
    png: bytes | None = None


class DroppedMessage(Message):
    """The numbers of frames that were passed over."""

    type: Literal["dropped"]
    frames: tuple[int, ...]


class DurableMessage(Message):
    """The frames up to this one are committed, where the stream commits at intervals."""

    type: Literal["durable"]
    frame: int


class StatsMessage(Message):
    """How the stream does, once a second where it was asked for.

    Frames a second since the last one, milliseconds from a frame's arrival to its masks by
    percentile over 10 seconds (`p50`, `p95`, `p99`; none without masks), frames that this stream
    passed over, and frames that wait for their masks.
    """

    type: Literal["stats"]
    frames_per_s: float
    latency_ms: dict[str, float]
    dropped: int
    queue: int


class ErrorMessage(Message):
    """A problem, after which the connection is closed."""

    type: Literal["error"]
    problem: Problem


class ByeMessage(Message):
    """The last message: whether the client is to connect again."""

    type: Literal["bye"]
    reason: str
    resume: bool


ServiceMessage: TypeAlias = Annotated[
    ReadyMessage
    | StreamedMasks
    | DroppedMessage
    | DurableMessage
    | StatsMessage
    | ErrorMessage
    | ByeMessage,
    Field(discriminator="type"),
]
SERVICE_MESSAGE: TypeAdapter[ServiceMessage] = TypeAdapter(ServiceMessage)


# What a client gives.


class ObjectPrompt(Message):
    """One object as the client gives it: an RLE, or polygons or a box [x, y, width, height]."""

    object_id: int = Field(validation_alias="id", serialization_alias="id")
    label: str | None = None
    rle: Rle | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    box: tuple[float, float, float, float] | None = None


class PointPrompt(Message):
    """A pixel x, y that is on the object (label 1), or on what is not of it (label 0)."""

    x: float
    y: float
    label: Literal[0, 1] = 1


class StrokePrompt(Message):
    """A line [x0, y0, x1, y1, ...] over the object (label 1), or over what is not of it (0)."""

    points: tuple[float, ...]
    label: Literal[0, 1] = 1


class SessionOptions(Message):
    """Settings of a session; what is None is the model's default."""

    model: str | None = None
    clip_length: int | None = None
    memory_size: int | None = None
    memory_gate: bool | None = None
    short_side: int | None = None
    labels: dict[int, str] | None = None
