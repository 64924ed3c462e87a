"""The body of an append: a form with images or a video, or one image without a form."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from service.access.admission import Reservation
from service.errors import BadOption, UnsupportedMedia, echo
from service.http.bodies import read_body
from service.http.dependencies import UploadLimits
from service.http.forms import BINARY, PartRule, is_form, receive_form
from service.http.schemas import AppendQuery
from service.sessions.frames import Source, VideoUpload

IMAGE_TYPES: Final = (
    "image/jpeg",
    "image/jpg",
    "image/pjpeg",
    "image/png",
    "image/webp",
    "application/octet-stream",
)

APPEND_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "frames": {
                            "type": "array",
                            "items": BINARY,
                            "description": "JPEG, PNG or WebP, in order",
                        },
                        "video": {**BINARY, "description": "MP4, WebM or MOV, alone"},
                    },
                }
            },
            **{kind: {"schema": BINARY} for kind in IMAGE_TYPES},
        },
    }
}


async def read_source(
    request: Request, limits: UploadLimits, reservation: Reservation, query: AppendQuery
) -> Source:
    """Read the images of an append, or its video.

    Raise BadOption, UnsupportedMedia, and what `receive_form` and `read_body` raise.
    """
    if is_form(request):
        rules = {
            "frames": PartRule(limits.frame_bytes, limits.append_frames),
            "video": PartRule(limits.video_bytes),
        }
        form = await receive_form(request, rules, limits=limits, reservation=reservation)
        if "video" in form:
            if "frames" in form:
                raise BadOption("the form has both 'frames' and 'video'")

            async def check() -> None:
                if await request.is_disconnected():
                    raise ClientDisconnect

            return VideoUpload(form["video"][0], query.skip, query.count, check)
        images = form.get("frames", [])
    else:
        kind = request.headers.get("content-type", IMAGE_TYPES[-1]).partition(";")[0]
        if kind.strip().lower() not in IMAGE_TYPES:
            known = ", ".join(("multipart/form-data", *IMAGE_TYPES))
            raise UnsupportedMedia(f"the body is {echo(kind.strip().lower())!r}; it may be {known}")
        body = await read_body(
            request,
            max_bytes=limits.frame_bytes,
            limits=limits,
            reservation=reservation,
        )
        images = [body] if body else []
    if query.skip or query.count is not None:
        raise BadOption("skip and count are for a video only")
    return images
