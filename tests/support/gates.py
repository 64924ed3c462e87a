"""The whole application in this process, over real HTTP, with a gate before the engine.

The engine is the real one on the toy model. A test decides when a clip reaches it, or fails.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import uvicorn
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.access.admission import Admission
from service.app import OpenEngines, create_app, open_chosen_engines
from service.commands.serve import configure, listen, write_address
from service.engines.base import BankLease, ClipMasks, Engine, Pictures
from service.engines.pool import Pool
from service.engines.states import NO_STATE, ModelState, StateSource
from service.server.workers import Workers
from service.settings import Settings
from service.stream.host import StreamHost
from service.telemetry.call_times import CallTimes
from service.telemetry.vitals import EngineVitals


@dataclass
class Gate:
    """Lets clips wait or fail before they reach the engine."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    clips: int = 0  # that have reached the gate
    queue_s: float = 0.0  # what the engine says that clips wait, at least
    pool: Pool | None = None  # whose work the engine's waits for too

    async def passed(self) -> None:
        """Wait until the gate is open, or raise its failure."""
        self.clips += 1
        self.reached.set()
        if self.failure:
            raise self.failure
        await self.opened.wait()


class GatedEngine:
    """The real engine behind a gate."""

    def __init__(self, engine: Engine, gate: Gate) -> None:
        self._engine = engine
        self._gate = gate

    @property
    def spec(self) -> ModelSpec:
        return self._engine.spec

    @property
    def runtime(self) -> str:
        return self._engine.runtime

    def estimate_wait_s(self, tenant: str) -> float:
        pool = self._gate.pool
        there_s = pool.estimate_wait_s(tenant) if pool else 0.0
        return max(self._engine.estimate_wait_s(tenant), self._gate.queue_s, there_s)

    @property
    def calls(self) -> Sequence[CallTimes]:
        return self._engine.calls

    def vitals(self) -> EngineVitals:
        return self._engine.vitals()

    @property
    def lacks_banks(self) -> bool:
        return self._engine.lacks_banks

    async def ready(self) -> None:
        await self._engine.ready()

    async def discard(self, session_id: str) -> None:
        await self._engine.discard(session_id)

    @asynccontextmanager
    async def lease(
        self,
        session_id: str,
        *,
        version: int,
        memory: Memory,
        model_size: tuple[int, int],
        pictures: Pictures,
        state: StateSource = NO_STATE,
    ) -> AsyncIterator[BankLease]:
        real = self._engine.lease(
            session_id,
            version=version,
            memory=memory,
            model_size=model_size,
            pictures=pictures,
            state=state,
        )
        async with real as bank:
            yield GatedLease(bank, self._gate)


class GatedLease:
    """The real lease behind a gate."""

    def __init__(self, bank: BankLease, gate: Gate) -> None:
        self._bank = bank
        self._gate = gate

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        await self._gate.passed()
        return await self._bank.segment(frames, before=before, object_ids=object_ids)

    async def remember(self, after: Memory) -> None:
        await self._bank.remember(after)

    def state(self) -> ModelState:
        return self._bank.state()

    def commit(self, version: int) -> None:
        self._bank.commit(version)


class Server(uvicorn.Server):
    """A server with an event that is set when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


def gated(gate: Gate) -> OpenEngines:
    @asynccontextmanager
    async def open_engines(settings: Settings) -> AsyncIterator[dict[str, Engine]]:
        async with open_chosen_engines(settings) as engines:
            yield {name: GatedEngine(engine, gate) for name, engine in engines.items()}

    return open_engines


class Serving(NamedTuple):
    """The application while it is served."""

    url: str
    streams: StreamHost
    admission: Admission
    workers: Workers


@asynccontextmanager
async def served(gate: Gate, settings: Settings) -> AsyncIterator[Serving]:
    """Serve the application with these settings at the URL until the end of the block."""
    # The canary would come to the gate first.
    settings = settings.model_copy(update={"canary_interval_s": 0.0})
    app = create_app(settings, open_engines=gated(gate))
    async with app.router.lifespan_context(app):
        with listen("127.0.0.1", 0, settings) as listener:
            server = Server(configure(app, settings))
            running = asyncio.create_task(server.serve([listener]))
            await server.ready.wait()
            try:
                parts = app.state
                service = parts.service
                yield Serving(
                    write_address(listener), parts.streams, service.admission, service.workers
                )
            finally:
                server.should_exit = True
                await running
