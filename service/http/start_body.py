"""The body that starts a session: a multipart form of frame, mask or objects, and options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

from service.access.admission import Reservation
from service.errors import BadOption
from service.http.dependencies import UploadLimits
from service.http.forms import BINARY, Form, PartRule, receive_form
from service.http.schemas import OBJECTS, OPTIONS
from service.http.strict_json import read_json, read_large_json
from service.server.workers import Workers
from service.sessions.annotations import Annotation, ObjectShape
from service.sessions.options import ChosenOptions

OPTIONS_BYTES: Final = 65_536
OBJECTS_BYTES: Final = 2_000_000

START_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["frame"],
                    "properties": {
                        "frame": {**BINARY, "description": "JPEG, PNG or WebP"},
                        "mask": {**BINARY, "description": "PNG of object ids, 0 = background"},
                        "objects": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/ObjectIn"},
                            "description": "instead of mask",
                        },
                        "options": {"$ref": "#/components/schemas/OptionsIn"},
                    },
                },
                "encoding": {
                    "objects": {"contentType": "application/json"},
                    "options": {"contentType": "application/json"},
                },
            }
        },
    }
}


@dataclass(frozen=True, slots=True)
class Start:
    """The contents of a form that starts a session."""

    frame: bytes
    given: Annotation
    options: ChosenOptions


async def read_start(
    request: Request, limits: UploadLimits, reservation: Reservation, workers: Workers
) -> Start:
    """Read the form that starts a session.

    Raise BadOption, and as `receive_form` and `read_json` do.
    """
    rules = {
        "frame": PartRule(limits.frame_bytes),
        "mask": PartRule(limits.frame_bytes),
        "objects": PartRule(OBJECTS_BYTES),
        "options": PartRule(OPTIONS_BYTES),
    }
    form = await receive_form(request, rules, limits=limits, reservation=reservation)
    if "frame" not in form:
        raise BadOption("the form has no part 'frame'")
    options = ChosenOptions()
    if "options" in form:
        read = read_json(form["options"][0], OPTIONS, where="options")
        options = ChosenOptions(
            model=read.model,
            clip_length=read.clip_length,
            memory_size=read.memory_size,
            memory_gate=read.memory_gate,
            short_side=read.short_side,
            labels={int(object_id): label for object_id, label in read.labels.items()},
        )
    given = await read_given(form, workers)
    return Start(frame=form["frame"][0], given=given, options=options)


async def read_given(form: Form, workers: Workers) -> Annotation:
    """Return the masks in a form; raise BadOption unless it has one part of mask and objects."""
    if ("mask" in form) == ("objects" in form):
        raise BadOption("the form needs either a part 'mask' or a part 'objects'")
    if "mask" in form:
        return form["mask"][0]
    return await read_shapes(form["objects"][0], workers)


async def read_shapes(text: bytes, workers: Workers) -> Sequence[ObjectShape]:
    """Return the objects in a JSON list; raise MalformedBody, BadOption."""
    return [
        ObjectShape(
            object_id=item.id,
            label=item.label,
            rle=item.rle.model_dump() if item.rle else None,
            polygons=item.polygons,
            box=item.box,
        )
        for item in await read_large_json(text, OBJECTS, workers, where="objects")
    ]
