"""The routes that change what a session tracks: correct and remove objects, fork."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field
from starlette.responses import Response

from service import errors
from service.access.parameters import DIGITS
from service.http.correct_body import CORRECT_BODY, read_correction
from service.http.dependencies import HolderOf, ServiceOf, TenantOf, check_request
from service.http.forms import BODY_ERRORS
from service.http.schemas import CorrectQuery, ForkQuery
from service.problems import document_errors
from service.sessions import responses
from service.telemetry.audit import audit, shorten_session
from tamvt_client.messages import CorrectedOut, SessionOut

JSON: Final = "application/json"

router = APIRouter(prefix="/v1/sessions", tags=["objects"], dependencies=[Depends(check_request)])

ObjectId = Annotated[int, Field(ge=1, le=254), DIGITS]


@router.put(
    "/{session_id}/objects",
    response_model=None,
    responses={
        200: {"model": CorrectedOut},
        **document_errors(
            *BODY_ERRORS,
            errors.StoreUnavailable,
            errors.StoreFull,
            errors.MasksTooLarge,
            errors.SessionTooLarge,
            errors.TooMany,
            errors.UnknownSession,
            errors.UnknownModel,
            errors.Conflict,
            errors.TooManyCorrections,
            errors.BadMask,
            errors.WrongMaskSize,
            errors.NoObjects,
            errors.TooManyObjects,
            errors.TooManyContours,
            errors.CorruptSession,
        ),
    },
    openapi_extra=CORRECT_BODY,
)
async def correct_objects(
    session_id: str,
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
    query: Annotated[CorrectQuery, Query()],
) -> Response:
    """Correct objects in the newest frame, and add those that the session does not track yet."""
    with service.admission.reservation() as reservation:
        service.admission.check_place(holder)
        given = await read_correction(request, service.uploads, reservation, service.workers)
        with service.admission.admit(holder):
            corrected = await service.tracker.correct(
                session_id, given, tenant=tenant, reservation=reservation, frame=query.frame
            )
            body = await service.workers.start(
                responses.write_corrected,
                corrected.masks,
                corrected.session,
                mask_format=query.format,
                notes=corrected.notes,
            )
    return Response(body, media_type=JSON)


@router.delete(
    "/{session_id}/objects/{object_id}",
    status_code=204,
    response_model=None,
    responses=document_errors(
        errors.UnknownSession, errors.UnknownObject, errors.LastObject, errors.Conflict
    ),
)
async def remove_object(
    session_id: str,
    object_id: ObjectId,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
) -> Response:
    """Stop tracking an object; its masks so far stay."""
    with service.admission.admit(holder):
        await service.tracker.remove(session_id, object_id, tenant=tenant)
    audit("object.removed", session=shorten_session(session_id), object=str(object_id))
    return Response(status_code=204)


@router.post(
    "/{session_id}/fork",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": SessionOut},
        **document_errors(
            errors.UnknownSession,
            errors.UnknownFrame,
            errors.RollbackTooFar,
            errors.Conflict,
            errors.SessionTooLarge,
            errors.StoreFull,
            errors.TooMany,
        ),
    },
)
async def fork_session(
    session_id: str,
    service: ServiceOf,
    tenant: TenantOf,
    holder: HolderOf,
    query: Annotated[ForkQuery, Query()],
) -> Response:
    """Start a session that continues from this one, as it is or as it was some clips ago."""
    service.admission.check_queue(service.tracker.estimate_wait_s(tenant))
    with service.admission.admit(holder):
        session = await service.tracker.fork(session_id, at=query.at, tenant=tenant)
    service.metrics.sessions.inc()
    body = responses.describe_session(session).to_json()
    headers = {"Location": f"{router.prefix}/{session.session_id}"}
    return Response(body, status_code=201, headers=headers, media_type=JSON)
