"""The client without its sockets: what to send, how to read the answer, when to try again.

`Client` and `AsyncClient` differ only in how they send and wait; everything else is here.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar

import httpx
import numpy as np
from pydantic import BaseModel, TypeAdapter, ValidationError

from model.core.palette import write_label_map
from service.media.images import encode_jpeg, media_type
from tamvt_client.errors import (
    Busy,
    ClientError,
    Problem,
    TimedOut,
    UnexpectedResponse,
    Unreachable,
    problem_error,
)
from tamvt_client.values import (
    Appended,
    FrameMasks,
    Image,
    Mask,
    MaskPage,
    Model,
    ObjectPrompt,
    Options,
    Session,
)

T = TypeVar("T")
V = TypeVar("V", bound=BaseModel)
Format: TypeAlias = Literal["rle", "polygons"]
Part: TypeAlias = tuple[str, tuple[str, bytes, str]]

CONNECT_DEADLINE_S = 5.0
FRAMES_PER_APPEND = 8
MODELS = TypeAdapter(tuple[Model, ...])
TICKET = TypeAdapter(str)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request and how its answer is read.

    `repeatable` says that sending it twice does no more than sending it once, so that it may be
    sent again although it could have been received.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: dict[str, str | int] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Retry:
    """How often and how patiently a request is sent again: full jitter below a doubling bound."""

    attempts: int = 6
    first_s: float = 0.1
    most_s: float = 5.0

    def wait_s(self, attempt: int, *, at_least_s: float = 0.0) -> float:
        """Seconds to wait after attempt number `attempt` (1 is the first)."""
        bound = min(self.most_s, self.first_s * 2 ** (attempt - 1))
        return at_least_s + random.uniform(0, bound)


def http_timeout(deadline_s: float) -> httpx.Timeout:
    """`deadline_s` for each wait, and less to connect."""
    return httpx.Timeout(deadline_s, connect=min(deadline_s, CONNECT_DEADLINE_S))


def read_or_raise(call: Call[T], response: httpx.Response) -> T:
    """The answer's value.

    Raises:
        ProblemResponse: the service said no.
        UnexpectedResponse: the answer is not of this API.
    """
    if not response.is_success:
        raise problem_error(_problem(response))
    try:
        return call.read(response)
    except (ValidationError, ValueError) as error:
        raise UnexpectedResponse(f"{call.method} {call.path}: {error}") from error


def transport_error(call: Call[T], error: httpx.TransportError) -> ClientError:
    """httpx's error as ours."""
    what = f"{call.method} {call.path}"
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return TimedOut(f"{what}: no answer in time")
    return Unreachable(f"{what}: {error or type(error).__name__}")


def wait_before_retry_s(call: Call[T], error: ClientError, *, attempt: int, retry: Retry) -> float:
    """Seconds to wait before the call is sent again; raises `error` where it is not.

    503 promises that nothing was changed, so anything may be sent again; so may anything that
    found no connection. After a broken connection only repeatable calls are.
    """
    if attempt >= retry.attempts or not _may_be_sent_again(call, error):
        raise error
    at_least_s = error.retry_after_s if isinstance(error, Busy) else 0.0
    return retry.wait_s(attempt, at_least_s=at_least_s)


def start_session(
    frame: Image,
    mask: Mask | None,
    objects: Sequence[ObjectPrompt],
    options: Options,
) -> Call[Session]:
    """POST /v1/sessions with a frame and either a mask image or a list of objects."""
    parts = (
        _image_part("frame", frame),
        _mask_part(mask, objects, "a session starts with"),
        _json_part("options", _given(options)),
    )
    return Call("POST", "/v1/sessions", _reader(Session), parts=parts, repeatable=False)


def append_frames(
    session_id: str, frames: Sequence[Image], *, first_frame: int, format: Format
) -> Call[Appended]:
    """POST /v1/sessions/{id}/clips with images; idempotent by frame number."""
    parts = tuple(_image_part("frames", frame) for frame in frames)
    return _append(session_id, parts, first_frame=first_frame, format=format)


def append_video(
    session_id: str,
    video: bytes | Path,
    *,
    first_frame: int,
    skip: int,
    count: int | None,
    format: Format,
) -> Call[Appended]:
    """POST /v1/sessions/{id}/clips with an MP4, WebM or MOV file; idempotent by frame number."""
    data = video.read_bytes() if isinstance(video, Path) else video
    part = ("video", ("video", data, media_type(data)))
    call = _append(session_id, (part,), first_frame=first_frame, format=format)
    wanted = {"skip": skip} if count is None else {"skip": skip, "count": count}
    return replace(call, query={**call.query, **wanted})


def correct_objects(
    session_id: str,
    mask: Mask | None,
    objects: Sequence[ObjectPrompt],
    *,
    frame: int | None,
    format: Format,
) -> Call[FrameMasks]:
    """PUT /v1/sessions/{id}/objects; safe to repeat if it names the frame it is meant for."""
    query: dict[str, str | int] = {"format": format}
    if frame is not None:
        query["frame"] = frame
    return Call(
        "PUT",
        f"/v1/sessions/{session_id}/objects",
        _reader(FrameMasks),
        query=query,
        parts=(_mask_part(mask, objects, "a correction has"),),
        repeatable=frame is not None,
    )


def remove_object(session_id: str, object_id: int) -> Call[None]:
    """DELETE /v1/sessions/{id}/objects/{object_id}."""
    path = f"/v1/sessions/{session_id}/objects/{object_id}"
    return Call("DELETE", path, lambda got: None, repeatable=False)


def fork_session(session_id: str, *, at: int | None) -> Call[Session]:
    """POST /v1/sessions/{id}/fork."""
    query: dict[str, str | int] = {} if at is None else {"at": at}
    path = f"/v1/sessions/{session_id}/fork"
    return Call("POST", path, _reader(Session), query=query, repeatable=False)


def read_session(session_id: str) -> Call[Session]:
    """GET /v1/sessions/{id}."""
    return Call("GET", f"/v1/sessions/{session_id}", _reader(Session))


def read_masks(
    session_id: str, *, first: int | None, last: int | None, format: Format
) -> Call[MaskPage]:
    """GET /v1/sessions/{id}/masks, the first page."""
    bounds = {"from": first, "to": last}
    query: dict[str, str | int] = {k: v for k, v in bounds.items() if v is not None}
    query["format"] = format
    return Call("GET", f"/v1/sessions/{session_id}/masks", _reader(MaskPage), query=query)


def read_next_page(address: str) -> Call[MaskPage]:
    """The page of masks at the address that the page before names."""
    return Call("GET", address, _reader(MaskPage))


def read_mask_png(session_id: str, frame: int) -> Call[bytes]:
    """GET /v1/sessions/{id}/masks/{frame}.png."""
    return Call("GET", f"/v1/sessions/{session_id}/masks/{frame}.png", lambda got: got.content)


def delete_session(session_id: str) -> Call[None]:
    """DELETE /v1/sessions/{id}."""
    return Call("DELETE", f"/v1/sessions/{session_id}", lambda got: None)


def issue_ticket(session_id: str) -> Call[str]:
    """POST /v1/sessions/{id}/tickets."""
    path = f"/v1/sessions/{session_id}/tickets"
    return Call("POST", path, lambda got: TICKET.validate_python(got.json()["ticket"]))


def list_models() -> Call[tuple[Model, ...]]:
    """GET /v1/models."""
    return Call("GET", "/v1/models", lambda got: MODELS.validate_python(got.json()["models"]))


def image_bytes(image: Image) -> bytes:
    """An image as it is sent: a picture becomes a JPEG of quality 95, the rest stays as it is."""
    if isinstance(image, Path):
        return image.read_bytes()
    return encode_jpeg(image) if isinstance(image, np.ndarray) else image


def mask_bytes(mask: Mask) -> bytes:
    """A mask as it is sent: an array becomes a palette PNG, without loss."""
    if isinstance(mask, Path):
        return mask.read_bytes()
    if isinstance(mask, np.ndarray):
        return write_label_map(mask.astype(np.uint8))
    return mask


def _append(
    session_id: str, parts: tuple[Part, ...], *, first_frame: int, format: Format
) -> Call[Appended]:
    query: dict[str, str | int] = {"first_frame": first_frame, "format": format}
    path = f"/v1/sessions/{session_id}/clips"
    return Call("POST", path, _reader(Appended), query=query, parts=parts)


def _reader(kind: type[V]) -> Callable[[httpx.Response], V]:
    return lambda response: kind.model_validate_json(response.content)


def _given(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


def _image_part(name: str, image: Image) -> Part:
    data = image_bytes(image)
    return name, ("image", data, media_type(data))


def _mask_part(mask: Mask | None, objects: Sequence[ObjectPrompt], what: str) -> Part:
    if (mask is None) == (not objects):
        raise ValueError(f"{what} either a mask or objects")
    if mask is not None:
        return "mask", ("mask.png", mask_bytes(mask), "image/png")
    return _json_part("objects", [_given(item) for item in objects])


def _json_part(name: str, value: object) -> Part:
    return name, ("", json.dumps(value).encode(), "application/json")


def _problem(response: httpx.Response) -> Problem:
    if response.headers.get("content-type", "").startswith("application/problem+json"):
        try:
            return Problem.model_validate_json(response.content)
        except ValidationError as error:
            raise UnexpectedResponse(f"a damaged problem: {error}") from error
    # A proxy on the way answers in its own words.
    return Problem(status=response.status_code, title=response.reason_phrase)


def _may_be_sent_again(call: Call[T], error: ClientError) -> bool:
    if isinstance(error, Busy):
        return True
    if not isinstance(error, Unreachable):
        return False
    return call.repeatable or isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
