"""The body of a correction: masks in a form, or a PNG or a JSON list without a form."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request

from service.access.admission import Reservation
from service.errors import UnsupportedMedia, echo
from service.http.bodies import read_body
from service.http.dependencies import UploadLimits
from service.http.forms import BINARY, PartRule, is_form, receive_form
from service.http.start_body import OBJECTS_BYTES, read_given, read_shapes
from service.server.workers import Workers
from service.sessions.annotations import Annotation

JSON: Final = "application/json"

CORRECT_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "mask": {**BINARY, "description": "PNG of object ids, 0 = as predicted"},
                        "objects": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/ObjectIn"},
                            "description": "instead of mask",
                        },
                    },
                },
                "encoding": {"objects": {"contentType": JSON}},
            },
            "image/png": {"schema": BINARY},
            JSON: {"schema": {"type": "array", "items": {"$ref": "#/components/schemas/ObjectIn"}}},
        },
    }
}


async def read_correction(
    request: Request, limits: UploadLimits, reservation: Reservation, workers: Workers
) -> Annotation:
    """Read the masks in a form, or in a body that is a PNG or a JSON list.

    Raise UnsupportedMedia, and as `receive_form`, `read_body`, `read_given` and `read_shapes` do.
    """
    if is_form(request):
        rules = {"mask": PartRule(limits.frame_bytes), "objects": PartRule(OBJECTS_BYTES)}
        form = await receive_form(request, rules, limits=limits, reservation=reservation)
        return await read_given(form, workers)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("image/png", JSON):
        raise UnsupportedMedia(
            f"the body is {echo(kind)!r}; it may be multipart/form-data, image/png or {JSON}"
        )
    body = await read_body(
        request,
        max_bytes=OBJECTS_BYTES if kind == JSON else limits.frame_bytes,
        limits=limits,
        reservation=reservation,
    )
    return await read_shapes(body, workers) if kind == JSON else body
