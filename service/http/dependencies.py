"""What the routes work with: made once, in the lifespan, and received by its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from structlog.contextvars import bind_contextvars

from model.core.image_headers import ImageLimits
from service.access.admission import Admission
from service.access.callers import Caller, Callers
from service.access.origins import SAFE_METHODS, Access
from service.access.parameters import check_parameters
from service.media.prompt_views import PromptModel
from service.server.workers import Workers
from service.sessions.tracking import TrackingService
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How large and slow an upload may be, in bytes, parts and seconds."""

    image: ImageLimits
    frame_bytes: int
    append_frames: int
    video_bytes: int
    deadline_s: float
    bytes_per_s: int  # a body may not be slower


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a running service that answer requests."""

    tracker: TrackingService
    workers: Workers
    admission: Admission
    metrics: Metrics
    uploads: UploadLimits
    deadline_s: float  # of the work on one request
    access: Access
    callers: Callers
    health: Health
    prompt_model: PromptModel | None = None  # none: prompts are cut out by GrabCut


async def find_service(request: Request) -> Service:
    """Return the service that answers this request."""
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


async def check_host(request: Request) -> None:
    """Raise ForeignHost where the request names another host than this one."""
    (await find_service(request)).access.check_host(request.headers)


async def check_public(request: Request) -> None:
    """Raise ForeignHost, ForeignOrigin or BadOption before anything else of the request is read."""
    (await find_service(request)).access.check(request.headers, method=request.method)
    check_parameters(request.query_params.multi_items())


async def caller_of(request: Request) -> Caller:
    """Return who calls; raise Unauthenticated, and what `check_public` raises before."""
    await check_public(request)
    peer = request.client.host if request.client else ""
    caller = await (await find_service(request)).callers.identify(request.headers, peer)
    bind_contextvars(tenant=caller.tenant)  # for the request's lines in the log
    return caller


CallerOf = Annotated[Caller, Depends(caller_of)]


async def check_request(request: Request, caller: CallerOf) -> None:
    """Raise Unauthenticated or MissingScope before anything else of the request is read."""
    caller.require("read" if request.method in SAFE_METHODS else "write")


async def tenant_of(caller: CallerOf) -> str:
    """Return the tenant that calls: whose sessions it may use, and whose quotas count."""
    return caller.tenant


async def name_holder(caller: CallerOf) -> str:
    """Return whose share of the places this request takes."""
    return caller.holder


HolderOf = Annotated[str, Depends(name_holder)]
ServiceOf = Annotated[Service, Depends(find_service)]
TenantOf = Annotated[str, Depends(tenant_of)]
