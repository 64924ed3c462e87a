"""The routes of a session: start it, append frames, read masks, show it, delete it."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response
from structlog.contextvars import bind_contextvars

from service import errors
from service.http.append_body import APPEND_BODY, read_source
from service.http.dependencies import HolderOf, ServiceOf, TenantOf, check_request
from service.http.forms import BINARY, BODY_ERRORS
from service.http.masks_response import write_answer
from service.http.schemas import AppendQuery, FrameNumber, MasksQuery, SessionsQuery
from service.http.start_body import START_BODY, read_start
from service.problems import document_errors
from service.sessions import responses
from service.telemetry.audit import audit, shorten_session
from service.telemetry.stage_times import StageTimes
from tamvt_client.messages import AppendedOut, MasksOut, SessionOut, SessionsOut

PAGE_FRAMES: Final = 500
DRAWN_BYTES: Final = 4  # of a pixel, while a mask is drawn
JSON: Final = "application/json"
UPLOAD_ERRORS: Final = (
    *BODY_ERRORS,
    errors.BadImage,
    errors.TruncatedImage,
    errors.StoreUnavailable,
    errors.StoreFull,
    errors.EngineUnavailable,
    errors.MasksTooLarge,
    errors.SessionTooLarge,
    errors.TooMany,
    errors.RateLimited,
)

router = APIRouter(prefix="/v1/sessions", tags=["sessions"], dependencies=[Depends(check_request)])


@router.post(
    "",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": SessionOut},
        **document_errors(
            *UPLOAD_ERRORS,
            errors.BadMask,
            errors.WrongMaskSize,
            errors.NoObjects,
            errors.TooManyObjects,
            errors.UnknownModel,
        ),
    },
    openapi_extra=START_BODY,
)
async def start_session(
    request: Request, service: ServiceOf, tenant: TenantOf, holder: HolderOf
) -> Response:
    """Start a session from one frame and a mask of each object in it."""
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        service.admission.check_queue(service.tracker.estimate_wait_s(tenant))
        start = await read_start(request, service.uploads, reservation, service.workers)
        with service.admission.admit(holder):
            session, notes = await service.tracker.start(
                start.frame, start.given, start.options, tenant=tenant, reservation=reservation
            )
    service.metrics.sessions.inc()
    bind_contextvars(session=shorten_session(session.session_id))
    location = f"{request.url.path}/{session.session_id}"
    body = responses.describe_session(session, notes=notes).to_json()
    headers = {"Location": location}
    return Response(body, status_code=201, headers=headers, media_type=JSON)


@router.post(
    "/{session_id}/clips",
    response_model=None,
    responses={
        200: {"model": AppendedOut},
        **document_errors(
            *UPLOAD_ERRORS,
            errors.UnknownSession,
            errors.UnknownModel,
            errors.Conflict,
            errors.FrameAhead,
            errors.FrameChanged,
            errors.NoFrames,
            errors.TooManyFrames,
            errors.WrongFrameSize,
            errors.TooManyContours,
            errors.BadVideo,
            errors.UnknownCodec,
            errors.DamagedVideo,
            errors.CostlyVideo,
            errors.DecoderUnavailable,
            errors.CorruptSession,
        ),
    },
    openapi_extra=APPEND_BODY,
)
async def append_frames(
    session_id: str,
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
    query: Annotated[AppendQuery, Query()],
) -> Response:
    """Track the next frames and return their masks. Safe to repeat: a frame is committed once."""
    times = StageTimes()
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        source = await read_source(request, service.uploads, reservation, query)
        times.end("receive")
        with service.admission.admit(holder):
            appended = await service.tracker.append(
                session_id,
                source,
                tenant=tenant,
                first_frame=query.first_frame,
                times=times,
                reservation=reservation,
            )
            body = await write_answer(
                service,
                appended.frames,
                appended.session,
                mask_format=query.format,
                first_frame=query.first_frame,
                next_frame=appended.session.next_frame,
                timing=times.milliseconds(),
                batch_sizes=times.batch_sizes,
            )
    fresh = appended.frames[appended.replayed :]
    service.metrics.count_frames(
        appended.frames,
        appended.session,
        replayed=appended.replayed,
        clips=len({masks.clip for masks in fresh}),
        times=times,
    )
    repeated = appended.replayed == len(appended.frames)
    headers = {"Idempotent-Replay": "true"} if repeated else {}
    if appended.allowance is not None:
        headers |= appended.allowance.headers()
    return Response(body, media_type=JSON, headers=headers)


@router.get("", response_model=None, responses={200: {"model": SessionsOut}, **document_errors()})
async def list_sessions(
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
    query: Annotated[SessionsQuery, Query()],
) -> Response:
    """List the caller's sessions in the order of their ids, a page at a time."""
    with service.admission.admit(holder):
        page = await service.tracker.sessions(tenant=tenant, after=query.after, most=query.limit)
    following = None
    if page.following is not None:
        following = f"{request.url.path}?after={page.following}&limit={query.limit}"
    found = tuple(responses.describe_session(session) for session in page.sessions)
    body = SessionsOut(sessions=found, next=following).to_json()
    headers = {"Link": f'<{following}>; rel="next"'} if following else None
    return Response(body, headers=headers, media_type=JSON)


@router.get(
    "/{session_id}",
    response_model=None,
    responses={200: {"model": SessionOut}, **document_errors(errors.UnknownSession)},
)
async def show_session(
    session_id: str, service: ServiceOf, tenant: TenantOf, holder: HolderOf
) -> Response:
    """Return the session as it is committed."""
    with service.admission.admit(holder):
        session = await service.tracker.session(session_id, tenant=tenant)
    return Response(responses.describe_session(session).to_json(), media_type=JSON)


@router.delete(
    "/{session_id}",
    status_code=204,
    response_model=None,
    responses=document_errors(errors.UnknownSession),
)
async def delete_session(
    session_id: str, service: ServiceOf, tenant: TenantOf, holder: HolderOf
) -> Response:
    """Delete the session with all its masks."""
    with service.admission.admit(holder):
        await service.tracker.delete(session_id, tenant=tenant)
    audit("session.deleted", session=shorten_session(session_id))
    return Response(status_code=204)


@router.get(
    "/{session_id}/masks",
    response_model=None,
    responses={
        200: {
            "model": MasksOut,
            "content": {"application/zip": {"schema": BINARY}},
        },
        **document_errors(errors.UnknownSession, errors.UnknownFrame, errors.TooManyContours),
    },
)
async def list_masks(
    session_id: str,
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
    query: Annotated[MasksQuery, Query()],
) -> Response:
    """Return stored masks, at most 500 frames a page: as JSON, or as a ZIP of palette PNGs."""
    with service.admission.admit(holder), service.admission.reservation() as reservation:
        page = await service.tracker.masks(
            session_id, tenant=tenant, first=query.first, last=query.last, most=PAGE_FRAMES
        )
        rows, columns = page.session.frame_size
        reservation.take(DRAWN_BYTES * rows * columns)
        following = None
        if page.following is not None:
            end = "" if query.last is None else f"&to={query.last}"
            path = f"{request.url.path}?from={page.following}{end}"
            following = f"{path}&format={query.format}"
        headers = {"Link": f'<{following}>; rel="next"'} if following else None
        if query.format == "png":
            run = service.workers.start
            pictures = {
                m.frame: await run(responses.write_png, m, page.session) for m in page.frames
            }
            body = await run(responses.write_zip, pictures)
            return Response(body, media_type="application/zip", headers=headers)
        body = await write_answer(
            service,
            page.frames,
            page.session,
            mask_format=query.format,
            next=following,
        )
        return Response(body, media_type=JSON, headers=headers)


@router.get(
    "/{session_id}/masks/{frame}.png",
    response_model=None,
    responses={
        200: {"content": {"image/png": {"schema": BINARY}}},
        **document_errors(errors.UnknownSession, errors.UnknownFrame),
    },
)
async def show_mask(
    session_id: str, frame: FrameNumber, service: ServiceOf, tenant: TenantOf, holder: HolderOf
) -> Response:
    """Return the label map of one frame: a palette PNG in the colors of DAVIS."""
    with service.admission.admit(holder), service.admission.reservation() as reservation:
        page = await service.tracker.masks(
            session_id, tenant=tenant, first=frame, last=frame, most=1
        )
        rows, columns = page.session.frame_size
        reservation.take(DRAWN_BYTES * rows * columns)
        body = await service.workers.start(responses.write_png, page.frames[0], page.session)
    return Response(body, media_type="image/png")
