"""The route of masks that belong to no session: a box, refined to the object inside it."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from model.core.encoding import encode_rle
from model.core.image_headers import ImageLimits
from model.core.masks import bounding_box
from service import errors
from service.http.dependencies import HolderOf, ServiceOf, check_request
from service.http.forms import BODY_ERRORS, PartRule, receive_form
from service.http.schemas import BOX
from service.http.strict_json import read_json
from service.media.grabcut import segment_box
from service.problems import documented
from service.sessions.annotations import FRAME_BYTES
from service.sessions.frames import count_picture, read_picture
from tamvt_client.messages import RefinedOut

BOX_BYTES: Final = 1_000
DRAWN_BYTES: Final = 4  # of a pixel, while its mask is drawn
DEADLINE_S: Final = 10.0

REFINE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image", "box"],
                    "properties": {
                        "image": {
                            "type": "string",
                            "format": "binary",
                            "description": "JPEG, PNG or WebP",
                        },
                        "box": {
                            "type": "array",
                            "items": {"type": "number"},
                            "description": "[x, y, width, height]",
                        },
                    },
                },
                "encoding": {"box": {"contentType": "application/json"}},
            }
        },
    }
}

router = APIRouter(prefix="/v1/masks", tags=["masks"], dependencies=[Depends(check_request)])


@router.post(
    "/refine",
    response_model=None,
    responses={
        200: {"model": RefinedOut},
        **documented(
            *BODY_ERRORS,
            errors.BadImage,
            errors.TruncatedImage,
            errors.NoObjects,
        ),
    },
    openapi_extra=REFINE_BODY,
)
async def refine_box(request: Request, service: ServiceOf, holder: HolderOf) -> Response:
    """Return the mask of the object inside a box of an image; nothing is stored."""
    limits = service.uploads
    rules = {"image": PartRule(limits.frame_bytes), "box": PartRule(BOX_BYTES)}
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        form = await receive_form(request, rules, limits=limits, reservation=reservation)
        for part in rules:
            if part not in form:
                raise errors.BadOption(f"the form has no part {part!r}")
        box = read_json(form["box"][0], BOX, where="box")
        image = form["image"][0]
        with service.admission.admit(holder):
            pixels = count_picture(image, limits.image, name="the image")
            reservation.take(pixels * (FRAME_BYTES + DRAWN_BYTES))
            try:
                async with asyncio.timeout(DEADLINE_S):
                    body = await service.workers.start(_refine, image, box, limits.image)
            except TimeoutError as error:
                raise errors.Overloaded(f"no mask within {DEADLINE_S:g} s; try again") from error
    return Response(body, media_type="application/json")


def _refine(image: bytes, box: list[float], limits: ImageLimits) -> bytes:
    """Return the JSON that `RefinedOut` documents."""
    mask = segment_box(read_picture(image, limits, name="the image"), box)
    members = {"rle": encode_rle(mask), "area": int(mask.sum()), "bbox": bounding_box(mask)}
    return RefinedOut.model_validate(members).to_json()
