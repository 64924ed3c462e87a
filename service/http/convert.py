"""The route that writes masks in the files of other tools: COCO's JSON in, another format out.

The page makes COCO with the names and sizes of a person's files, which the service never sees. What
it costs is counted before it is paid: members while they are text, pixels before they are decoded.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from model.core.masks import MaskError
from service import errors
from service.http.bodies import read_body
from service.http.dependencies import HolderOf, ServiceOf, check_request
from service.http.forms import BODY_ERRORS
from service.media.formats import coco
from service.media.formats.annotated import AnnotatedFrame, AnnotatedVideo
from service.media.formats.registry import FORMATS, write_zip
from service.problems import document_errors

Convertible = Literal["coco-video", "cvat", "davis", "label-studio", "mots", "yolo", "youtube-vos"]

MAX_BYTES: Final = 16_000_000
MAX_VALUES: Final = 1_000_000  # commas, which no value does without
VALUE_BYTES: Final = 100  # of a value, once it is parsed
MADE_BYTES: Final = 4  # of what is written, for each byte of the body
MAX_PIXELS: Final = 4_000_000_000  # of all masks together
MEDIA_TYPES: Final = {"json": "application/json", "xml": "application/xml", "txt": "text/plain"}
CONVERT_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["images", "annotations"],
                    "description": "COCO's JSON, with run lengths or polygons",
                }
            }
        },
    }
}
CONVERTED: Final[dict[str, Any]] = {
    "description": "The file, or a ZIP where there are several",
    "content": {
        kind: {"schema": {"type": "string", "format": "binary"}}
        for kind in ("application/zip", *MEDIA_TYPES.values())
    },
}

router = APIRouter(prefix="/v1/masks", tags=["masks"], dependencies=[Depends(check_request)])


@router.post(
    "/convert",
    response_class=Response,
    responses={
        200: CONVERTED,
        **document_errors(*BODY_ERRORS, errors.BadMask, errors.BadOption),
    },
    openapi_extra=CONVERT_BODY,
)
async def convert_masks(
    request: Request,
    service: ServiceOf,
    holder: HolderOf,
    to: Annotated[Convertible, Query(alias="format", description="what is written")],
) -> Response:
    """Return the masks of a COCO file in another format; nothing is stored."""
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise errors.UnsupportedMedia(
                f"the body is {errors.echo(kind)!r}, not application/json"
            )
        text = await read_body(
            request, max_bytes=MAX_BYTES, limits=service.uploads, reservation=reservation
        )
        values = text.count(b",")
        if values > MAX_VALUES:
            raise errors.PayloadTooLarge(
                f"the body has {values} values; at most {MAX_VALUES} are read: send fewer frames, "
                "or use `tamvt convert`",
                limit=MAX_VALUES,
            )
        with service.admission.admit(holder):
            reservation.take(values * VALUE_BYTES + len(text) * MADE_BYTES)
            until = time.monotonic() + service.deadline_s
            document = await service.workers.start(_parse, text)
            del text
            reservation.take(coco.measure_largest_frame(document))
            name, body = await service.workers.start(_convert, document, to, until)
    suffix = name.rpartition(".")[2]
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}"}
    return Response(body, media_type=MEDIA_TYPES.get(suffix, "application/zip"), headers=headers)


def _parse(text: bytes) -> coco.Document:
    """Return the members of a COCO file; raise BadMask, or PayloadTooLarge for too many pixels."""
    try:
        document = coco.parse(text, name="the body")
    except MaskError as error:
        raise errors.BadMask(str(error)) from error
    pixels = coco.count_pixels(document)
    if pixels > MAX_PIXELS:
        raise errors.PayloadTooLarge(
            f"the masks have {pixels} pixels together; at most {MAX_PIXELS} are converted: "
            "send fewer frames, or use `tamvt convert`",
            limit=MAX_PIXELS,
        )
    return document


def _convert(document: coco.Document, to: Convertible, until: float) -> tuple[str, bytes]:
    """Return the file's name and content; raise BadMask, or Overloaded where it takes too long."""
    try:
        video = coco.read_video(document)
        files = FORMATS[to].files(replace(video, frames=_InTime(video, until)))
        if FORMATS[to].single:
            ((path, content),) = files
            return path.rpartition("/")[2], content
        return f"{video.name}.zip", write_zip(files)
    except MaskError as error:
        raise errors.BadMask(str(error)) from error


@dataclass(frozen=True, slots=True)
class _InTime(Iterable[AnnotatedFrame]):
    """The frames of a video, for as long as there is time."""

    video: AnnotatedVideo
    until: float

    def __iter__(self) -> Iterator[AnnotatedFrame]:
        for frame in self.video.frames:
            if time.monotonic() > self.until:
                raise errors.Overloaded(
                    "the masks were not converted in time; send fewer frames, or use "
                    "`tamvt convert`"
                )
            yield frame
