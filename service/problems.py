"""Errors as HTTP: a table from class to status (decision 16), answered as problem+json (RFC 9457).

A problem's `type` is `/problems/<slug>`; docs/api.md lists them. An error that means no more than
its HTTP status (an unknown path, a wrong method) has the type `about:blank`.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from service import errors

MEDIA_TYPE: Final = "application/problem+json"
SHOWN_ERRORS: Final = 20

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """The status, name and title of all problems of one error class."""

    status: int
    slug: str
    title: str


KINDS: Final[Mapping[type[errors.TamvtError], Kind]] = {
    errors.TamvtError: Kind(500, "internal-error", "The service failed"),
    errors.Refused: Kind(400, "refused", "The request is refused"),
    errors.BadRequest: Kind(400, "bad-request", "The request cannot be understood"),
    errors.MalformedBody: Kind(400, "malformed-body", "The body cannot be read"),
    errors.BadMessage: Kind(400, "bad-message", "The message is not expected"),
    errors.BadImage: Kind(422, "bad-image", "Not an image that is read here"),
    errors.TruncatedImage: Kind(422, "truncated-image", "The end of the image is missing"),
    errors.BadMask: Kind(422, "bad-mask", "The mask cannot be used"),
    errors.WrongMaskSize: Kind(422, "wrong-mask-size", "The mask is of another size"),
    errors.NoObjects: Kind(422, "no-objects", "The mask shows no object"),
    errors.BadOption: Kind(422, "bad-option", "A field is unknown or impossible"),
    errors.BadVideo: Kind(422, "bad-video", "Not a video that is read here"),
    errors.UnknownCodec: Kind(422, "unknown-codec", "The video's codec is not read here"),
    errors.DamagedVideo: Kind(422, "damaged-video", "The video is cut off or damaged"),
    errors.WrongFrameSize: Kind(422, "wrong-frame-size", "The frame is of another size"),
    errors.NoFrames: Kind(422, "no-frames", "There is no frame"),
    errors.TooManyObjects: Kind(422, "too-many-objects", "There are too many objects"),
    errors.TooManyContours: Kind(422, "too-many-contours", "The masks are no polygons"),
    errors.PayloadTooLarge: Kind(413, "too-large", "The body is too large"),
    errors.HeadTooLarge: Kind(431, "head-too-large", "The head of the request is too large"),
    errors.MasksTooLarge: Kind(413, "masks-too-large", "The masks take too many bytes"),
    errors.SessionTooLarge: Kind(413, "session-too-large", "The session takes too many bytes"),
    errors.PictureTooLarge: Kind(413, "picture-too-large", "The picture is too large"),
    errors.TooManyFrames: Kind(413, "too-many-frames", "There are too many frames"),
    errors.CostlyVideo: Kind(413, "costly-video", "The video takes too much to decode"),
    errors.UnsupportedMedia: Kind(415, "unsupported-media", "The body is of another kind"),
    errors.SlowUpload: Kind(408, "slow-upload", "The body took too long"),
    errors.Idle: Kind(408, "idle", "The stream was idle"),
    errors.BadTicket: Kind(401, "bad-ticket", "The ticket is not valid"),
    errors.Unauthenticated: Kind(401, "unauthenticated", "A valid key or token is needed"),
    errors.MissingScope: Kind(403, "missing-scope", "The key does not allow this"),
    errors.ForeignHost: Kind(403, "foreign-host", "The service has another name"),
    errors.ForeignOrigin: Kind(403, "foreign-origin", "The page may not use this service"),
    errors.TooMany: Kind(429, "too-many", "There are too many"),
    errors.RateLimited: Kind(429, "rate-limited", "Too much in a short time"),
    errors.UnknownSession: Kind(404, "unknown-session", "The session is unknown or expired"),
    errors.UnknownFrame: Kind(404, "unknown-frame", "The frame is not kept"),
    errors.UnknownObject: Kind(404, "unknown-object", "The object is not tracked"),
    errors.LastObject: Kind(409, "last-object", "The session's only object"),
    errors.TooManyCorrections: Kind(409, "memory-full", "The memory is full of corrections"),
    errors.RollbackTooFar: Kind(409, "rollback-too-far", "The frame is too old to go back to"),
    errors.UnknownModel: Kind(404, "unknown-model", "The model is not served here"),
    errors.Conflict: Kind(409, "conflict", "The session is elsewhere"),
    errors.FrameAhead: Kind(409, "frame-ahead", "Frames are left out"),
    errors.FrameChanged: Kind(409, "frame-changed", "The frame was other content before"),
    errors.Unavailable: Kind(503, "unavailable", "Try again later"),
    errors.StoreUnavailable: Kind(503, "store-unavailable", "The session store is away"),
    errors.StoreFull: Kind(503, "store-full", "The session store is full"),
    errors.EngineUnavailable: Kind(503, "engine-unavailable", "The model gave no answer"),
    errors.DecoderUnavailable: Kind(503, "decoder-unavailable", "The video was not decoded"),
    errors.IssuerUnavailable: Kind(503, "issuer-unavailable", "Tokens cannot be checked"),
    errors.Overloaded: Kind(503, "overloaded", "Too much at once"),
    errors.CorruptSession: Kind(500, "corrupt-session", "The stored session is damaged"),
    errors.StartupError: Kind(500, "startup-error", "The service could not start"),
    errors.Misconfigured: Kind(500, "misconfigured", "The service is not set up"),
    errors.ModelMissing: Kind(500, "model-missing", "The model is missing"),
    errors.ModelMismatch: Kind(500, "model-mismatch", "The model's files do not match"),
}

# What every route may answer.
OF_ALL_ROUTES: Final = (
    errors.BadOption,
    errors.Unavailable,
    errors.Unauthenticated,
    errors.MissingScope,
)

# Attributes of errors that a client can act on: members of the problem.
MEMBERS: Final = ("expected", "oldest", "limit", "session_id", "retry_after_s")


def find_kind(error: errors.TamvtError) -> Kind:
    """Return the kind of the error's class, or of the nearest class above that has one."""
    return next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)


def name_problem_type(error: type[errors.TamvtError]) -> str:
    """Return the `type` of an error class's problems."""
    return f"/problems/{KINDS[error].slug}"


def describe_problem(error: errors.TamvtError) -> dict[str, object]:
    """Return the members of the problem that tells of an error."""
    kind = find_kind(error)
    members = {name: getattr(error, name) for name in MEMBERS if hasattr(error, name)}
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": str(error),
        **members,
    }


def write_refusal(error: errors.TamvtError) -> bytes:
    """Return a whole HTTP/1.1 answer that tells of an error, for a connection that is closed."""
    body = json.dumps(describe_problem(error), allow_nan=False).encode()
    status = HTTPStatus(find_kind(error).status)
    lines = (
        f"HTTP/1.1 {status} {status.phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers_of(error).items()),
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + body


def headers_of(error: errors.TamvtError) -> dict[str, str]:
    """Return the headers that go with the problem of an error."""
    headers = {}
    if isinstance(error, errors.Unavailable | errors.TooMany):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, errors.RateLimited):
        headers |= error.headers
    if isinstance(error, errors.Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="tamvt"'
    return headers


def document_errors(*raised: type[errors.TamvtError]) -> dict[int | str, dict[str, Any]]:
    """Return FastAPI's `responses` of a route that may raise these errors, and those of all."""
    kinds = sorted({KINDS[error] for error in (*raised, *OF_ALL_ROUTES)})
    return {
        status: {
            "description": "; ".join(f"`{kind.slug}`" for kind in kinds if kind.status == status),
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in sorted({kind.status for kind in kinds})
    }


def install(app: FastAPI, *, count: Callable[[str], None]) -> None:
    """Answer every error of `app` as problem+json, and call `count` with the slug of each."""

    def answer(members: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Response:
        slug = str(members["type"]).rpartition("/")[2]
        count(slug if slug != "about:blank" else f"http-{members['status']}")
        return Response(
            json.dumps(members, ensure_ascii=False, allow_nan=False),
            status_code=int(str(members["status"])),
            headers=headers,
            media_type=MEDIA_TYPE,
        )

    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, errors.TamvtError)
        if find_kind(error).status == HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("%s", error)
        return answer(describe_problem(error), headers_of(error))

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return answer(_problem_of_request(error))

    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        status = HTTPStatus(error.status_code)
        detail = "there is nothing here" if status == HTTPStatus.NOT_FOUND else error.detail
        members = {"type": "about:blank", "title": status.phrase, "status": int(status)}
        return answer({**members, "detail": detail}, error.headers)

    async def unexpected(_: Request, error: Exception) -> Response:
        return answer(
            describe_problem(errors.TamvtError("an unexpected error; it is in the service's log"))
        )

    async def disconnected(_: Request, error: Exception) -> Response:
        count("client-gone")
        return Response(status_code=HTTPStatus.BAD_REQUEST)

    app.add_exception_handler(errors.TamvtError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, disconnected)
    app.add_exception_handler(Exception, unexpected)


def _problem_of_request(error: RequestValidationError) -> dict[str, object]:
    """Return the problem of a request with wrong parameters: the first of them with reasons."""
    found = [
        {"where": ".".join(errors.echo(step) for step in item["loc"]), "message": item["msg"]}
        for item in error.errors()[:SHOWN_ERRORS]
    ]
    detail = "; ".join(f"{item['where']}: {item['message']}" for item in found)
    return {**describe_problem(errors.BadOption(detail)), "errors": found}
