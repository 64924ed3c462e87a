"""The client without its sockets: what to send, how to read the answer, when to try again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from tamvt_client.errors import (
    Busy,
    ClientError,
    TimedOut,
    UnexpectedResponse,
    Unreachable,
    make_problem_error,
)
from tamvt_client.images import (
    FileInput,
    ImageInput,
    MaskInput,
    encode_image,
    encode_mask,
    media_type,
    read_file,
)
from tamvt_client.masks import Rle
from tamvt_client.messages import (
    AppendedOut,
    CorrectedOut,
    MaskFormat,
    MasksOut,
    ModelOut,
    ModelsOut,
    ObjectPrompt,
    PointPrompt,
    Problem,
    RefinedOut,
    SessionOptions,
    SessionOut,
    SessionsOut,
    StrokePrompt,
    TicketOut,
)

T = TypeVar("T")
V = TypeVar("V", bound=BaseModel)
Part: TypeAlias = tuple[str, tuple[str, bytes, str]]

FRAMES_PER_APPEND = 8


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


def read_or_raise(call: Call[T], response: httpx.Response) -> T:
    """Return the answer's value.

    Raises:
        ProblemResponse: the service said no.
        UnexpectedResponse: the answer is not of this API.
    """
    if not response.is_success:
        raise make_problem_error(_problem(response))
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


def allow_retry(call: Call[T], error: BaseException) -> bool:
    """Return whether the call is repeated after this error.

    503 and a rate that is used up promise that nothing was changed, so anything may be sent again;
    so may anything that found no connection. After a broken one only repeatable calls are.
    """
    if isinstance(error, Busy):
        return True
    if not isinstance(error, Unreachable):
        return False
    return call.repeatable or isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)


def start_session(
    frame: ImageInput,
    mask: MaskInput | None,
    objects: Sequence[ObjectPrompt],
    options: SessionOptions,
) -> Call[SessionOut]:
    """POST /v1/sessions with a frame and either a mask image or a list of objects."""
    parts = (
        _image_part("frame", frame),
        _mask_part(mask, objects, "a session starts with"),
        _json_part("options", _given(options)),
    )
    return Call("POST", "/v1/sessions", _reader(SessionOut), parts=parts, repeatable=False)


def append_frames(
    session_id: str, frames: Sequence[ImageInput], *, first_frame: int, format: MaskFormat
) -> Call[AppendedOut]:
    """POST /v1/sessions/{id}/clips with images; idempotent by frame number."""
    parts = tuple(_image_part("frames", frame) for frame in frames)
    return _append(session_id, parts, first_frame=first_frame, format=format)


def append_video(
    session_id: str,
    video: FileInput,
    *,
    first_frame: int,
    skip: int,
    count: int | None,
    format: MaskFormat,
) -> Call[AppendedOut]:
    """POST /v1/sessions/{id}/clips with an MP4, WebM or MOV file; idempotent by frame number."""
    data = read_file(video, name="a video")
    part = ("video", ("video", data, media_type(data)))
    call = _append(session_id, (part,), first_frame=first_frame, format=format)
    wanted = {"skip": skip} if count is None else {"skip": skip, "count": count}
    return replace(call, query={**call.query, **wanted})


def correct_objects(
    session_id: str,
    mask: MaskInput | None,
    objects: Sequence[ObjectPrompt],
    *,
    frame: int | None,
    format: MaskFormat,
) -> Call[CorrectedOut]:
    """PUT /v1/sessions/{id}/objects; safe to repeat if it names the frame it is meant for."""
    query: dict[str, str | int] = {"format": format}
    if frame is not None:
        query["frame"] = frame
    return Call(
        "PUT",
        f"/v1/sessions/{session_id}/objects",
        _reader(CorrectedOut),
        query=query,
        parts=(_mask_part(mask, objects, "a correction has"),),
        repeatable=frame is not None,
    )


def remove_object(session_id: str, object_id: int) -> Call[None]:
    """DELETE /v1/sessions/{id}/objects/{object_id}."""
    path = f"/v1/sessions/{session_id}/objects/{object_id}"
    return Call("DELETE", path, lambda got: None, repeatable=False)


def fork_session(session_id: str, *, at: int | None) -> Call[SessionOut]:
    """POST /v1/sessions/{id}/fork."""
    query: dict[str, str | int] = {} if at is None else {"at": at}
    path = f"/v1/sessions/{session_id}/fork"
    return Call("POST", path, _reader(SessionOut), query=query, repeatable=False)


def read_session(session_id: str) -> Call[SessionOut]:
    """GET /v1/sessions/{id}."""
    return Call("GET", f"/v1/sessions/{session_id}", _reader(SessionOut))


def list_sessions(address: str = "/v1/sessions") -> Call[SessionsOut]:
    """GET /v1/sessions, or the page at the address that the page before names."""
    return Call("GET", address, _reader(SessionsOut))


def read_masks(
    session_id: str, *, first: int | None, last: int | None, format: MaskFormat
) -> Call[MasksOut]:
    """GET /v1/sessions/{id}/masks, the first page."""
    bounds = {"from": first, "to": last}
    query: dict[str, str | int] = {k: v for k, v in bounds.items() if v is not None}
    query["format"] = format
    return Call("GET", f"/v1/sessions/{session_id}/masks", _reader(MasksOut), query=query)


def read_next_page(address: str) -> Call[MasksOut]:
    """Return the page of masks at the address that the page before names."""
    return Call("GET", address, _reader(MasksOut))


def read_mask_png(session_id: str, frame: int) -> Call[bytes]:
    """GET /v1/sessions/{id}/masks/{frame}.png."""
    return Call("GET", f"/v1/sessions/{session_id}/masks/{frame}.png", lambda got: got.content)


def delete_session(session_id: str) -> Call[None]:
    """DELETE /v1/sessions/{id}."""
    return Call("DELETE", f"/v1/sessions/{session_id}", lambda got: None)


def issue_ticket(session_id: str) -> Call[str]:
    """POST /v1/sessions/{id}/tickets."""
    path = f"/v1/sessions/{session_id}/tickets"
    return Call("POST", path, lambda got: TicketOut.model_validate_json(got.content).ticket)


def refine_mask(
    image: ImageInput,
    box: Sequence[float] | None,
    *,
    points: Sequence[PointPrompt],
    strokes: Sequence[StrokePrompt],
    polygon: Sequence[float] | None,
    previous: Rle | None,
) -> Call[RefinedOut]:
    """POST /v1/masks/refine; nothing is stored."""
    given: dict[str, object] = {
        "box": None if box is None else [float(value) for value in box],
        "points": [(point.x, point.y, point.label) for point in points],
        "strokes": [_given(stroke) for stroke in strokes],
        "polygon": None if polygon is None else [float(value) for value in polygon],
        "previous": previous,
    }
    prompt = [_json_part(name, value) for name, value in given.items() if value]
    parts = (_image_part("image", image), *prompt)
    return Call("POST", "/v1/masks/refine", _reader(RefinedOut), parts=parts)


def list_models() -> Call[tuple[ModelOut, ...]]:
    """GET /v1/models."""
    return Call("GET", "/v1/models", lambda got: ModelsOut.model_validate_json(got.content).models)


def _append(
    session_id: str, parts: tuple[Part, ...], *, first_frame: int, format: MaskFormat
) -> Call[AppendedOut]:
    query: dict[str, str | int] = {"first_frame": first_frame, "format": format}
    path = f"/v1/sessions/{session_id}/clips"
    return Call("POST", path, _reader(AppendedOut), query=query, parts=parts)


def _reader(kind: type[V]) -> Callable[[httpx.Response], V]:
    return lambda response: kind.model_validate_json(response.content)


def _given(value: BaseModel) -> dict[str, Any]:
    return value.model_dump(mode="json", by_alias=True, exclude_none=True)


def _image_part(name: str, image: ImageInput) -> Part:
    data = encode_image(image)
    return name, ("image", data, media_type(data))


def _mask_part(mask: MaskInput | None, objects: Sequence[ObjectPrompt], what: str) -> Part:
    if (mask is None) == (not objects):
        raise ValueError(f"{what} either a mask or objects")
    if mask is not None:
        return "mask", ("mask.png", encode_mask(mask), "image/png")
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
