"""An engine that answers in time and is wrong makes the service unready, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import Memory
from service.app import create_app, open_chosen_engines
from service.engines.base import BankLease, ClipMasks, Engine
from service.engines.embedded import embedded_engine
from service.errors import EngineUnavailable
from service.sessions.canary import Canary, draw, watch_engines
from service.settings import Settings
from service.telemetry.health import Health
from service.telemetry.metrics import Metrics
from tests.support.gates import Gate, GatedEngine, GatedLease
from tests.support.running import PATIENCE_S, problem

pytestmark = pytest.mark.anyio


class Fault:
    """What is wrong with an engine now."""

    shift = 0  # pixels by which the masks are moved
    confidence = 1.0
    error: Exception | None = None


class WrongLease(GatedLease):
    """The real lease, whose masks have a fault."""

    def __init__(self, bank: BankLease, fault: Fault) -> None:
        gate = Gate()
        gate.opened.set()
        super().__init__(bank, gate)
        self._fault = fault

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        if self._fault.error:
            raise self._fault.error
        found = await super().segment(frames, before=before, object_ids=object_ids)
        masks = np.roll(found.masks, self._fault.shift, axis=2)
        confidence = found.confidence * np.float32(self._fault.confidence)
        return replace(found, masks=masks, confidence=confidence)


class WrongEngine(GatedEngine):
    """The real engine, whose masks have a fault."""

    def __init__(self, engine: Engine, fault: Fault) -> None:
        super().__init__(engine, Gate())
        self._fault = fault

    @asynccontextmanager
    async def lease(self, session_id: str, **options: Any) -> AsyncIterator[BankLease]:
        async with self._engine.lease(session_id, **options) as bank:
            yield WrongLease(bank, self._fault)


async def until(http: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask whether the service is ready until the answer has this status."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await http.get("/readyz")).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer


async def test_a_wrong_engine_is_not_ready_from_the_start_until_it_is_right(
    redis_url: str, toy_folder: Path
) -> None:
    fault = Fault()
    fault.shift = 40

    @asynccontextmanager
    async def open_engines(settings: Settings) -> AsyncIterator[dict[str, Engine]]:
        async with open_chosen_engines(settings) as engines:
            yield {name: WrongEngine(engine, fault) for name, engine in engines.items()}

    settings = Settings(
        redis_url=redis_url,
        weights=toy_folder,
        model="toy",
        engine_threads=1,
        canary_interval_s=0.05,
    )
    app = create_app(settings, open_engines=open_engines)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http,
    ):
        first = await http.get("/readyz")
        assert problem(first) == (503, "engine-unavailable")
        assert "the masks of the canary clip are wrong: J 0." in first.json()["detail"]
        assert "toy in onnxruntime/fp32" in first.json()["detail"]
        told = (await http.get("/metrics")).text
        assert 'tamvt_canary_failures_total{model="toy"}' in told
        fault.shift = 0
        await until(http, 200)
        fault.shift = 40
        await until(http, 503)


async def test_an_error_that_nobody_expects_is_logged_and_the_next_run_comes(
    toy_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.sessions.canary.AGAIN_S", 0.05)
    fault, health = Fault(), Health()
    fault.error = ValueError("a tensor of another shape")
    async with embedded_engine(toy_folder, "toy", threads=1) as engine:
        engines = {"toy": WrongEngine(engine, fault)}
        async with watch_engines(engines, health, Metrics(), interval_s=3600.0):
            assert "the canary of toy could not be run" in caplog.text
            assert "a tensor of another shape" in caplog.text
            health.check_open()
            fault.error, fault.shift = None, 40
            async with asyncio.timeout(PATIENCE_S):
                while is_open(health):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)


def is_open(health: Health) -> bool:
    try:
        health.check_open()
    except EngineUnavailable:
        return False
    return True


async def test_masks_that_drift_or_confidences_that_are_no_numbers_fail(toy_folder: Path) -> None:
    fault = Fault()
    async with embedded_engine(toy_folder, "toy", threads=1) as engine:
        canary = Canary(WrongEngine(engine, fault))
        assert (await canary.run()).reason == (await canary.run()).reason == ""
        fault.shift = 1
        drifted = await canary.run()
        assert drifted.j > 0.9
        assert "have changed" in drifted.reason
        fault.shift, fault.confidence = 0, float("nan")
        assert "no number" in (await canary.run()).reason


async def test_the_shipped_model_finds_the_canary() -> None:
    async with embedded_engine(SHIPPED_WEIGHTS, "tamvt-mobile", threads=1) as engine:
        verdict = await Canary(engine).run()
    assert verdict.reason == ""
    assert verdict.j > 0.95


def test_the_canary_is_a_square_that_moves() -> None:
    pictures, masks = draw((64, 128), frames=3)
    assert pictures.shape == (3, 64, 128, 3)
    assert masks.sum(axis=(1, 2)).tolist() == [32 * 32] * 3
    assert (masks[0] != masks[2]).sum() == 2 * 2 * 2 * 32
    assert (pictures[masks] == (220, 40, 40)).all()
