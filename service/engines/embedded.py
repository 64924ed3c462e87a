"""The embedded engine: the model in this process, in a bounded pool of threads.

Letters: B entries of a batch, L frames, O objects, h and w the model's size.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.engines.bank import BankCache, BankUses, EmbeddedBank, count_bank_bytes
from service.engines.base import (
    DEFAULT_LIMITS,
    BankLease,
    ClipMasks,
    EngineLimits,
    EntryPicture,
    Pictures,
)
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.model_calls import ClipEnd, rebuild, remember, segment, tell_state
from service.engines.pictures import BankSource, entries_of_state, made_by_memorize
from service.engines.pool import Pool
from service.engines.runtimes import ONNX_RUNTIME_ONLY, RuntimeOptions, choose_runtime
from service.engines.states import NO_STATE, ModelState, StateSource
from service.errors import EngineUnavailable, ModelMismatch
from service.telemetry.call_times import CallTimes
from service.telemetry.vitals import EngineVitals

T = TypeVar("T")
CLOSE_S: Final = 1.0


@asynccontextmanager
async def embedded_engine(
    folder: Path,
    name: str,
    *,
    threads: int = 0,
    workers: int = 1,
    limits: EngineLimits = DEFAULT_LIMITS,
    runtime: RuntimeOptions = ONNX_RUNTIME_ONLY,
) -> AsyncIterator[EmbeddedEngine]:
    """Open a warm engine for the model `name` in `folder`; see `embedded_engines`."""
    opening = embedded_engines(
        folder, [name], threads=threads, workers=workers, limits=limits, runtime=runtime
    )
    async with opening as engines:
        yield engines[name]


@asynccontextmanager
async def embedded_engines(
    folder: Path,
    names: Sequence[str],
    *,
    threads: int = 0,
    workers: int = 1,
    limits: EngineLimits = DEFAULT_LIMITS,
    runtime: RuntimeOptions = ONNX_RUNTIME_ONLY,
) -> AsyncIterator[dict[str, EmbeddedEngine]]:
    """Open warm engines for the models in `folder`, by name.

    Raise ModelMissing, ModelMismatch, or Misconfigured if the runtime is not installed.

    `threads` are those of one inference (0: one for each processor), `workers` the inferences at
    once. The models share workers and queue, and the bytes of all banks.
    """
    threads = threads or len(os.sched_getaffinity(0))
    pool = Pool(workers=workers, queue=limits.waiting, deadline_s=limits.clip_deadline_s)
    banks: BankCache[EmbeddedBank] = BankCache(limit_bytes=limits.bank_bytes)
    engines: dict[str, EmbeddedEngine] = {}
    try:
        for name in names:
            graphs = await asyncio.to_thread(open_graphs, folder, name, threads=threads)
            graphs = await asyncio.to_thread(
                choose_runtime, graphs, folder, runtime, threads=threads
            )
            engines[name] = EmbeddedEngine(graphs, pool, banks)
            await engines[name].warm_up()
        yield engines
    finally:
        # A clip that is under way ends at its next step; a longer one is left behind.
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await asyncio.to_thread(pool.close)


class EmbeddedEngine:
    """Runs clips one by one, each with its session's bank."""

    def __init__(self, graphs: Graphs, pool: Pool, banks: BankCache[EmbeddedBank]) -> None:
        self._graphs = graphs
        self._pool = pool
        self._banks = banks
        self._uses = BankUses()

    @property
    def spec(self) -> ModelSpec:
        return self._graphs.spec

    @property
    def runtime(self) -> str:
        return self._graphs.runtime

    def estimate_wait_s(self, tenant: str) -> float:
        """See `base.Engine.estimate_wait_s`."""
        return self._pool.estimate_wait_s(tenant)

    @property
    def calls(self) -> Sequence[CallTimes]:
        return ()

    async def ready(self) -> None:
        """See `base.Engine.ready`."""
        self._pool.check()

    async def warm_up(self) -> None:
        """Run both graphs once at the first size that is served.

        Raise ModelMismatch if they cannot be run with what their spec claims.
        """
        height, width = self.spec.buckets.sizes[0]
        frames = np.zeros((self.spec.clip_length, height, width, 3), np.uint8)
        blank = EntryPicture(frames[0], np.zeros((1, height, width), np.uint8))
        usual = 1 if self._graphs.any_shape else self.spec.memory_size
        memory = Memory.start(0, [1], capacity=usual)
        bank = EmbeddedBank(self.spec, (height, width), memory, [1])
        graphs, wanted = self._graphs, {name: each.shape for name, each in bank.state.items()}
        try:
            await self._pool.run(lambda run: rebuild(graphs, run, bank, [blank]))
            _, end = await self._pool.run(lambda run: segment(graphs, run, bank, frames))
            await self._pool.run(lambda run: remember(graphs, run, bank, end, memory))
        except (EngineUnavailable, ValueError) as error:  # a tensor that does not fit its slot
            raise ModelMismatch(f"{self.spec.name} does not do what it claims: {error}") from error
        made = {name: each.shape for name, each in bank.state.items()}
        if made != wanted:
            raise ModelMismatch(f"{self.spec.name} claims a state of {wanted} and makes {made}")

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
        """See `base.Engine.lease`."""
        source = BankSource(session_id, version, memory, model_size, pictures, state)
        lease = EmbeddedLease(source, self._graphs, self._pool, self._banks, self._uses)
        try:
            yield lease
        finally:
            lease.leave()

    def vitals(self) -> EngineVitals:
        """See `base.Engine.vitals`."""
        return EngineVitals(
            waiting=self._pool.waiting,
            running=self._pool.running,
            bank_bytes=self._banks.nbytes,
            bank_hits=self._uses.hits,
            bank_rebuilds=self._uses.rebuilds,
        )

    @property
    def lacks_banks(self) -> bool:
        """See `base.Engine.lacks_banks`."""
        return self._banks.is_half_leased

    async def discard(self, session_id: str) -> None:
        """See `base.Engine.discard`."""
        self._banks.drop(session_id)


class EmbeddedLease:
    """One session's bank while it is written. Made by `EmbeddedEngine.lease`."""

    def __init__(
        self,
        source: BankSource,
        graphs: Graphs,
        pool: Pool,
        banks: BankCache[EmbeddedBank],
        uses: BankUses,
    ) -> None:
        self._source = source
        self._graphs, self._pool, self._banks, self._uses = graphs, pool, banks, uses
        # None while it is not known to hold the memory.
        self._bank = banks.take(source.session_id, version=source.version, memory=source.memory)
        self._uses.hits += self._bank is not None
        self._leased_bytes = self._bank.nbytes if self._bank else 0
        self._end: ClipEnd | None = None  # of the clip that was segmented last
        self._went_on = False  # a clip was segmented: the source's state is no longer the bank's
        self._state_rebuilt = False
        self._committed = False

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """See `base.BankLease.segment`."""
        self._committed = False
        bank = await self._bank_of(before, object_ids)
        self._end = None
        self._bank = None  # if this is interrupted, its tensors are in doubt
        graphs = self._graphs
        answer, end = await self._pool.run(lambda run: segment(graphs, run, bank, frames))
        self._bank, self._end, self._went_on = bank, end, True
        answer = replace(answer, state_rebuilt=self._state_rebuilt)
        self._state_rebuilt = False
        return answer

    async def remember(self, after: Memory) -> None:
        """See `base.BankLease.remember`."""
        bank, end = self._bank, self._end
        assert bank is not None, "a clip is segmented before it is remembered"
        assert end is not None, "a clip is remembered once"
        graphs = self._graphs
        self._bank = self._end = None  # as in `segment`
        if made_by_memorize(graphs.spec, after.newest, bank.object_ids):
            await self._pool.run(lambda run: remember(graphs, run, bank, end, after))
        else:
            remember(graphs, Inference(), bank, end, after)  # copies, and runs no graph
        self._bank = bank

    def state(self) -> ModelState:
        """See `base.BankLease.state`."""
        assert self._bank is not None, "there is no state but after a clip"
        return self._bank.state

    def commit(self, version: int) -> None:
        """See `base.BankLease.commit`."""
        self._committed = True
        if self._bank is not None:
            self._bank.version = version

    def leave(self) -> None:
        """Give a committed bank back to the cache; drop any other."""
        self._banks.release(self._leased_bytes)
        if self._committed and self._bank is not None:
            self._banks.keep(self._source.session_id, self._bank)

    async def _bank_of(self, memory: Memory, object_ids: Sequence[int]) -> EmbeddedBank:
        """Return the bank of this memory, rebuilt if the leased one is of another."""
        size = self._source.model_size
        if self._bank is not None and self._bank.holds(memory, object_ids, size):
            return self._bank
        if memory != self._source.memory or (self._went_on and self._graphs.spec.state):
            raise EngineUnavailable("the bank was lost in the middle of an append")
        self._bank = None
        self._uses.rebuilds += 1
        self._banks.release(self._leased_bytes)
        self._leased_bytes = 0
        nbytes = count_bank_bytes(self._graphs.spec, size, memory, object_ids)
        self._banks.reserve(nbytes)
        self._leased_bytes = nbytes
        bank = EmbeddedBank(self._graphs.spec, size, memory, object_ids)
        pictures, graphs = await self._source.load(), self._graphs
        await self._pool.run(lambda run: rebuild(graphs, run, bank, pictures))
        if graphs.spec.state:
            stored = await self._source.load_state(graphs.spec, object_ids)
            again = entries_of_state(self._source, pictures, stored)
            bank.state = bank.state if stored is None else stored
            await self._pool.run(lambda run: tell_state(graphs, run, bank, again))
            self._state_rebuilt = stored is None
        return bank
