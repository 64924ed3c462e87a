"""The routes for operators: models, health, readiness and metrics."""

from __future__ import annotations

import asyncio
from dataclasses import asdict

from fastapi import APIRouter, Depends, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from model.core.contract import ModelSpec
from service.http.dependencies import CallerOf, ServiceOf, check_public, check_request
from service.problems import document_errors
from tamvt_client.messages import ModelOut, ModelsOut, StatusOut

router = APIRouter(tags=["operations"], dependencies=[Depends(check_public)])


@router.get(
    "/v1/models",
    response_model=None,
    responses={200: {"model": ModelsOut}, **document_errors()},
    dependencies=[Depends(check_request)],
)
async def list_models(service: ServiceOf) -> Response:
    """List the models that are served; the first one is the default."""
    models = [
        describe_model(spec, runtime=service.tracker.runtime(spec.name))
        for spec in service.tracker.specs
    ]
    return Response(ModelsOut(models=tuple(models)).to_json(), media_type="application/json")


def describe_model(spec: ModelSpec, *, runtime: str) -> ModelOut:
    """Return what is told of a model."""
    size, own = spec.buckets.sizes[0], ModelSpec.__dataclass_fields__.keys()
    return ModelOut.model_validate(
        {
            **{name: getattr(spec, name) for name in ModelOut.model_fields if name in own},
            "memory_gate": spec.memory_gate,
            "lost_below": spec.lost_below,
            "experimental": spec.experimental,
            "runtime": runtime,
            "entry_bytes": spec.slot_bytes(size, objects=1),
            "state_bytes": sum(tensor.slot_bytes(size, objects=1) for tensor in spec.state),
            "measured": None if spec.measured is None else asdict(spec.measured),
        }
    )


@router.get("/healthz", response_model=None, responses={200: {"model": StatusOut}})
async def health() -> Response:
    """Say that the process is alive. Restart it if this does not answer."""
    return JSONResponse({"status": "ok"})


@router.get(
    "/readyz",
    response_model=None,
    responses={200: {"model": StatusOut}, **document_errors()},
)
async def readiness(service: ServiceOf) -> Response:
    """Say that work gets done: the store is written, the engine answers, no thread is stuck.

    Send no requests here while this is 503.
    """
    service.health.check_open()
    service.workers.check_moving()
    await service.tracker.ready()
    return JSONResponse({"status": "ready"})


@router.get(
    "/metrics",
    response_model=None,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}},
        **document_errors(),
    },
)
async def metrics(request: Request, service: ServiceOf, caller: CallerOf) -> Response:
    """Return the metrics in Prometheus' text format. They are of all tenants: for operators."""
    if request.scope["raw_path"] != b"/metrics":  # escaped: a proxy's rule may not know it
        raise HTTPException(404)
    caller.require("admin")
    service.metrics.tasks.set(len(asyncio.all_tasks()))
    text = await service.metrics.tell()
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})
