"""The service put together: the only file that knows all parts.

Each part is opened once, in the lifespan, and all are closed in reverse.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import cv2
from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware

from model.core.image_headers import ImageLimits
from service import problems
from service.access.admission import Admission
from service.access.callers import Callers, read_networks
from service.access.key_stores import IN_REDIS, KeyFile, RedisKeys
from service.access.keys import KeyStore
from service.access.origins import Access, read_hosts, read_origins
from service.access.tickets import Tickets
from service.engines.base import Engine, EngineLimits
from service.engines.embedded import embedded_engines
from service.engines.prompt_graph import find_prompt_graph
from service.engines.runtimes import RuntimeOptions
from service.errors import Misconfigured, StoreUnavailable
from service.http import convert, objects, operations, page, prompts, sessions
from service.http.dependencies import Service, UploadLimits
from service.http.middleware import Drain, EquivalentRequests, SafeHeaders
from service.http.request_meter import RequestMeter
from service.http.schemas import ObjectIn, OptionsIn, StrokeIn
from service.local.private_redis import private_redis
from service.media.video_decoder import VideoDecoder
from service.server.malloc import return_free_memory
from service.server.workers import Workers
from service.sessions.backend import SessionBackend
from service.sessions.canary import watch_engines
from service.sessions.frames import Limits
from service.sessions.snapshots import SnapshotPolicy
from service.sessions.tracking import TrackingService
from service.settings import Settings, read_settings
from service.store.rates import RateLimits, TenantRates
from service.store.records import StoreLimits
from service.store.redis_client import calls_of
from service.store.session_store import SessionStore, open_store
from service.store.stream_quota import StreamQuota
from service.stream import asyncapi, routes
from service.stream.host import StreamHost
from service.stream.open_streams import OpenStreams
from service.stream.ownership import watch_ownership
from service.stream.stream_parts import StreamLimits, StreamParts
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics
from tamvt_client.messages import Problem

log = logging.getLogger(__name__)
OpenEngines = Callable[[Settings], AbstractAsyncContextManager[Mapping[str, Engine]]]

# FastAPI's own spans tell whole paths, and so the ids of sessions: ours are those of RequestMeter.
NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False}
EXPOSED_HEADERS = (
    *("Link", "Location", "Idempotent-Replay", "X-Request-ID"),
    *("RateLimit", "RateLimit-Policy", "Retry-After"),
)
API_VERSION = "1"
DESCRIPTION = "Tracks objects through video: one frame and a mask in, masks of every frame out."


def create_app(
    settings: Settings | None = None, *, open_engines: OpenEngines | None = None
) -> FastAPI:
    """Return the application; its parts are opened when its lifespan begins.

    Without `settings` they are read from the environment. `open_engines` opens other
    engines, by model, than the settings choose.
    """
    settings = settings or read_settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opened = open_service(settings, metrics, open_engines or open_chosen_engines)
        async with opened as parts, return_free_memory():
            app.state.service, app.state.streams = parts
            yield

    # Swagger's page would fetch its scripts from elsewhere: /docs is a page of our own.
    app = FastAPI(
        title="TAM-VT Serve",
        version=API_VERSION,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.include_router(sessions.router)
    app.include_router(objects.router)
    app.include_router(prompts.router)
    app.include_router(convert.router)
    app.include_router(routes.router)
    app.include_router(asyncapi.router)
    app.include_router(operations.router)
    app.include_router(page.router)
    problems.install(app, count=metrics.count_problem)
    metrics.expect_problems(kind.slug for kind in problems.KINDS.values())
    app.add_middleware(SafeHeaders)
    app.add_middleware(Drain)
    app.add_middleware(RequestMeter, metrics=metrics)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=read_origins(settings.allowed_origins),
        allow_methods=["*"],
        allow_headers=["*"],
        expose_headers=EXPOSED_HEADERS,
    )
    app.add_middleware(EquivalentRequests)
    _describe(app)
    return app


@asynccontextmanager
async def open_service(
    settings: Settings, metrics: Metrics, open_engines: OpenEngines
) -> AsyncIterator[tuple[Service, StreamHost]]:
    """Open every part of the service; raise StartupError if one cannot be opened."""
    cv2.setNumThreads(1)  # the workers are the parallelism, and its own threads would compete
    session_limits, stream_limits, upload_limits = _choose_limits(settings)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(_open_store(settings))
        engines = await stack.enter_async_context(open_engines(settings))
        health = Health()
        request_s, redis_s = settings.request_deadline_s, settings.redis_deadline_s
        workers = stack.enter_context(Workers(threads=settings.threads, stuck_s=request_s))
        backend = SessionBackend(
            store,
            workers,
            engines=engines,
            snapshots=SnapshotPolicy(settings.rollback_clips, settings.rollback_snapshots),
            videos=VideoDecoder(processes=settings.threads),
            rates=choose_rates(settings, store),
        )
        stack.push_async_callback(backend.videos.close)
        tracker = TrackingService(backend, limits=session_limits, deadline_s=request_s)
        watch = await stack.enter_async_context(watch_ownership(store))
        admission = Admission(
            max_requests=settings.max_requests,
            max_bytes=settings.max_request_bytes,
            max_queue_s=settings.max_queue_s,
        )
        access, callers = await open_access(settings, store)
        stack.push_async_callback(callers.close)
        quota = StreamQuota(store.redis, most=settings.max_tenant_streams, deadline_s=redis_s)
        streams = StreamHost(
            StreamParts(
                tracker=tracker, workers=workers, metrics=metrics, watch=watch, limits=stream_limits
            ),
            admission=admission,
            access=access,
            callers=callers,
            open_streams=OpenStreams(max_streams=settings.max_streams),
            quota=quota,
            tickets=Tickets(store, ttl_s=settings.ticket_ttl_s),
        )
        service = Service(
            tracker=tracker,
            workers=workers,
            admission=admission,
            metrics=metrics,
            access=access,
            callers=callers,
            health=health,
            uploads=upload_limits,
            deadline_s=request_s,
            prompt_model=await asyncio.to_thread(
                find_prompt_graph, settings.weights, settings.served_models
            ),
        )
        canaries = watch_engines(engines, health, metrics, interval_s=settings.canary_interval_s)
        await stack.enter_async_context(canaries)
        metrics.state.watch(backend.engines, calls_of(store.redis), backend.videos)
        yield service, streams


def _choose_limits(settings: Settings) -> tuple[Limits, StreamLimits, UploadLimits]:
    """Return the limits of sessions, of streams and of uploads."""
    image = ImageLimits(
        max_bytes=settings.max_frame_bytes,
        max_width=settings.max_frame_width,
        max_height=settings.max_frame_height,
    )
    session = Limits(
        image=image,
        append_frames=settings.max_append_frames,
        video_frames=settings.max_video_frames,
        objects=settings.max_objects,
        short_side=settings.max_short_side,
    )
    stream = StreamLimits(
        credits=settings.stream_credits,
        frame_bytes=settings.max_frame_bytes,
        stall_s=settings.stream_stall_s,
        idle_s=settings.stream_idle_s,
    )
    upload = UploadLimits(
        image=image,
        frame_bytes=settings.max_frame_bytes,
        append_frames=settings.max_append_frames,
        video_bytes=settings.max_video_bytes,
        deadline_s=settings.upload_deadline_s,
        bytes_per_s=settings.upload_bytes_per_s,
    )
    return session, stream, upload


def open_chosen_engines(settings: Settings) -> AbstractAsyncContextManager[Mapping[str, Engine]]:
    """Return the engines of the served models, to be opened; the default model's is the first."""
    limits = EngineLimits(
        waiting=settings.max_requests,
        bank_bytes=settings.bank_bytes,
        clip_deadline_s=settings.clip_deadline_s,
    )
    if settings.engine == "embedded":
        return embedded_engines(
            settings.weights,
            settings.served_models,
            threads=settings.engine_threads,
            limits=limits,
            runtime=RuntimeOptions(settings.runtime, settings.runtime_files),
        )
    # Imported where it is needed: its client is an extra, and takes a while to import.
    try:
        from service.engines.triton.engine import SharedMemory, triton_engines
    except ModuleNotFoundError as error:
        raise Misconfigured(f"TAMVT_ENGINE: pip install 'tamvt-serve[triton]' ({error})") from error
    return triton_engines(
        settings.triton_url,
        settings.served_models,
        in_flight=settings.triton_in_flight,
        start_deadline_s=settings.triton_start_deadline_s,
        limits=limits,
        memory=SharedMemory(idle_s=settings.session_ttl_s)
        if settings.triton_shared_memory
        else None,
    )


@asynccontextmanager
async def _open_store(settings: Settings) -> AsyncIterator[SessionStore]:
    """Open the store on the Redis of the settings, or on a private one; raise Misconfigured."""
    async with AsyncExitStack() as stack:
        url = settings.redis_url or await stack.enter_async_context(
            private_redis(settings.state, most_bytes=settings.private_redis_bytes)
        )
        store = await stack.enter_async_context(
            open_store(
                url,
                ttl_s=settings.session_ttl_s,
                deadline_s=settings.redis_deadline_s,
                kept_frames=settings.kept_frames,
                limits=StoreLimits(
                    tenant_sessions=settings.tenant_sessions,
                    tenant_bytes=settings.tenant_bytes,
                    tenant_objects=settings.tenant_objects,
                    session_bytes=settings.session_bytes,
                    frame_masks_bytes=settings.frame_mask_bytes,
                ),
            )
        )
        try:
            await store.ping()
        except StoreUnavailable as error:
            raise Misconfigured(f"TAMVT_REDIS_URL: {error}") from error
        yield store


def choose_rates(settings: Settings, store: SessionStore) -> TenantRates | None:
    """Return what counts each tenant's frames and seconds, None where neither is limited."""
    limits = RateLimits(settings.tenant_frames_per_s, settings.tenant_engine_share)
    if limits == RateLimits():
        return None
    return TenantRates(store.redis, limits=limits, deadline_s=settings.redis_deadline_s)


async def open_access(settings: Settings, store: SessionStore) -> tuple[Access, Callers]:
    """Return from where calls may come, and what tells who calls; raise Misconfigured.

    Where anybody may call the log says so.
    """
    keys: KeyStore | None = None
    if settings.keys == IN_REDIS:
        keys = RedisKeys(store.redis, deadline_s=settings.redis_deadline_s)
    elif settings.keys:
        keys = KeyFile(Path(settings.keys))
        keys.check()
    tokens = None
    if settings.oidc_issuer:
        # Imported where it is needed: cryptography takes a while to import.
        from service.access.tokens import Issuer, TokenVerifier

        tokens = TokenVerifier(
            Issuer(
                url=settings.oidc_issuer,
                audience=settings.oidc_audience,
                jwks_url=settings.oidc_jwks_url,
                tenant_claim=settings.oidc_tenant_claim,
                scope_claim=settings.oidc_scope_claim,
            )
        )
        await tokens.fetch()
    if not settings.is_guarded:
        log.warning("open: no key is asked for, and everybody is one tenant (TAMVT_KEYS)")
    access = Access(
        hosts=read_hosts(settings.allowed_hosts),
        origins=read_origins(settings.allowed_origins),
        tickets_required=settings.tickets_required,
    )
    callers = Callers(
        keys=keys,
        tokens=tokens,
        tenant_header=settings.tenant_header,
        proxies=read_networks(settings.trusted_proxies),
    )
    return access, callers


def _describe(app: FastAPI) -> None:
    """Add to OpenAPI what FastAPI cannot see: the problems, and the JSON parts of forms."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        schema = generate()
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (Problem, ObjectIn, OptionsIn, StrokeIn):
            own = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(own.pop("$defs", {}))
            schemas[model.__name__] = own
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it
