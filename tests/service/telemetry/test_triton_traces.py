"""A trace goes on in Triton, which sends its own spans of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from service.engines.triton.engine import triton_engine
from service.local.triton import local_triton
from service.sessions.canary import Canary
from tests.support.otlp import running_collector
from tests.support.running import PATIENCE_S

pytestmark = pytest.mark.anyio

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def test_triton_goes_on_with_the_trace_of_a_clip(toy_repository: Path) -> None:
    caller = SpanContext(int(TRACE, 16), 1, is_remote=True, trace_flags=TraceFlags(1))
    with (
        running_collector() as collector,
        local_triton(toy_repository, otlp_endpoint=collector.url) as triton,
    ):
        async with triton_engine(triton.url, "toy") as engine, asyncio.timeout(PATIENCE_S):
            # On a busy machine Triton drops spans that it could not send in time, and says nothing.
            while not {"toy_memorize", "toy_segment"} <= set(collector.by_trace[TRACE]):
                with use_span(NonRecordingSpan(caller)):
                    verdict = await Canary(engine).run()
                assert verdict.reason == ""
                assert "segment" in engine.calls[0].durations
                await asyncio.sleep(1)
