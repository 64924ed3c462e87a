"""The route of masks that belong to no session: what is pointed at in an image."""

from __future__ import annotations

import asyncio
from typing import Any, Final, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.responses import Response

from model.core.encoding import decode_rle, encode_rle
from model.core.image_headers import ImageLimits
from model.core.masks import MaskError, bounding_box
from service import errors
from service.http.dependencies import HolderOf, ServiceOf, check_request
from service.http.forms import BINARY, BODY_ERRORS, Form, PartRule, receive_form
from service.http.schemas import BOX, POINTS, POLYGON, RLE, STROKES
from service.http.strict_json import read_json
from service.media.prompt_views import PromptModel
from service.media.prompts import Prompt, Touch, segment_prompt
from service.problems import document_errors
from service.sessions.annotations import FRAME_BYTES
from service.sessions.frames import count_picture, read_picture
from tamvt_client.messages import RefinedOut

PROMPT_BYTES: Final = 100_000
PREVIOUS_BYTES: Final = 2_000_000
DRAWN_BYTES: Final = 16  # of a pixel, while its mask is made
DEADLINE_S: Final = 10.0

NUMBERS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "number"}}
JSON_PARTS: Final = ("points", "strokes", "box", "polygon", "previous")
REFINE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {**BINARY, "description": "JPEG, PNG or WebP"},
                        "points": {
                            "type": "array",
                            "items": NUMBERS,
                            "description": "[[x, y, label]]: 1 on the object, 0 on something else",
                        },
                        "strokes": {
                            "type": "array",
                            "items": {"$ref": "#/components/schemas/StrokeIn"},
                            "description": "lines over the object, or over something else",
                        },
                        "box": {**NUMBERS, "description": "[x, y, width, height] around it"},
                        "polygon": {**NUMBERS, "description": "[x0, y0, x1, y1, ...] around it"},
                        "previous": {
                            "allOf": [{"$ref": "#/components/schemas/RleIn"}],
                            "description": "the mask so far, to which the prompt is added",
                        },
                    },
                },
                "encoding": {name: {"contentType": "application/json"} for name in JSON_PARTS},
            }
        },
    }
}

T = TypeVar("T")

router = APIRouter(prefix="/v1/masks", tags=["masks"], dependencies=[Depends(check_request)])


@router.post(
    "/refine",
    response_model=None,
    responses={
        200: {"model": RefinedOut},
        **document_errors(
            *BODY_ERRORS,
            errors.BadImage,
            errors.BadMask,
            errors.TruncatedImage,
            errors.NoObjects,
            errors.EngineUnavailable,
        ),
    },
    openapi_extra=REFINE_BODY,
)
async def refine_mask(request: Request, service: ServiceOf, holder: HolderOf) -> Response:
    """Return the mask of what is pointed at in an image; nothing is stored."""
    limits = service.uploads
    rules = {
        "image": PartRule(limits.frame_bytes),
        "previous": PartRule(PREVIOUS_BYTES),
        **{name: PartRule(PROMPT_BYTES) for name in JSON_PARTS if name != "previous"},
    }
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        form = await receive_form(request, rules, limits=limits, reservation=reservation)
        if "image" not in form:
            raise errors.BadOption("the form has no part 'image'")
        image = form["image"][0]
        with service.admission.admit(holder):
            pixels = count_picture(image, limits.image, name="the image")
            reservation.take(pixels * (FRAME_BYTES + DRAWN_BYTES))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    body = await service.workers.start(
                        _refine, form, limits.image, service.prompt_model
                    )
            except TimeoutError as error:
                raise errors.Overloaded(f"no mask within {DEADLINE_S:g} s; try again") from error
    return Response(body, media_type="application/json")


def _refine(form: Form, limits: ImageLimits, model: PromptModel | None) -> bytes:
    """Return the JSON that `RefinedOut` documents."""
    prompt = _read_prompt(form)
    picture = read_picture(form["image"][0], limits, name="the image")
    found = segment_prompt(picture, prompt, model)
    members = {
        "rle": encode_rle(found.mask),
        "area": int(found.mask.sum()),
        "bbox": bounding_box(found.mask),
        "score": round(found.score, 4),
        "parts": found.parts,
        "warnings": found.warnings,
        "made_by": found.made_by,
    }
    return RefinedOut.model_validate(members).to_json()


def _read_prompt(form: Form) -> Prompt:
    """Return what the form points at; raise MalformedBody, BadOption, BadMask."""
    touches = []
    for x, y, label in _read(form, "points", POINTS) or ():
        if label not in (0, 1):
            raise errors.BadOption(f"points: the label {label:g} is neither 0 nor 1")
        touches.append(Touch([(x, y)], wanted=label == 1))
    for stroke in _read(form, "strokes", STROKES) or ():
        if len(stroke.points) % 2:
            raise errors.BadOption("strokes: a stroke is [x0, y0, x1, y1, ...]")
        places = list(zip(stroke.points[::2], stroke.points[1::2], strict=True))
        touches.append(Touch(places, wanted=stroke.label == 1))
    previous = _read(form, "previous", RLE)
    try:
        mask = None if previous is None else decode_rle(previous.model_dump())
    except MaskError as error:
        raise errors.BadMask(f"previous: {error}") from error
    return Prompt(touches, _read(form, "box", BOX), _read(form, "polygon", POLYGON), mask)


def _read(form: Form, name: str, kind: TypeAdapter[T]) -> T | None:
    return read_json(form[name][0], kind, where=name) if name in form else None
