"""The Triton engine: each clip is a request to Triton, with its bank in shared memory if possible.

A clip is a pure function of its bank; its entry stays beside the bank until it is remembered. A
request that surely did not run is sent again. One that may have run is not, since it may still
write: its bank is dropped, and the next try starts from the memory (decision 27).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.engines.bank import BankCache, BankUses
from service.engines.base import (
    DEFAULT_LIMITS,
    TRITON,
    BankLease,
    ClipMasks,
    EngineLimits,
    Pictures,
)
from service.engines.pictures import BankSource, entries_of_state
from service.engines.states import NO_STATE, ModelState, StateSource
from service.engines.triton.bank import TritonBank
from service.engines.triton.client import TritonClient, triton_client
from service.engines.triton.inline_bank import InlineBanks
from service.engines.triton.regions import PREFIX, SHARED_MEMORY, NoSharedMemory, Regions
from service.engines.triton.shared_bank import SharedBanks
from service.errors import EngineUnavailable, Misconfigured
from service.telemetry.call_times import CallTimes
from service.telemetry.vitals import EngineVitals

log = logging.getLogger(__name__)

Banks = SharedBanks | InlineBanks

SWEEP_S = 60.0
RETRY_S = 0.5  # of removals that Triton refuses


@dataclass(frozen=True, slots=True)
class SharedMemory:
    """Where the banks of all processes of this host lie, and how long they are kept unused."""

    folder: Path = SHARED_MEMORY
    prefix: str = PREFIX
    idle_s: float = 3600.0


HOST_MEMORY: Final = SharedMemory()


@asynccontextmanager
async def triton_engine(
    url: str,
    name: str,
    *,
    in_flight: int = 16,
    start_deadline_s: float = 30.0,
    limits: EngineLimits = DEFAULT_LIMITS,
    memory: SharedMemory | None = HOST_MEMORY,
) -> AsyncIterator[TritonEngine]:
    """Open an engine for the model `name`; see `triton_engines`."""
    opening = triton_engines(
        url,
        [name],
        in_flight=in_flight,
        start_deadline_s=start_deadline_s,
        limits=limits,
        memory=memory,
    )
    async with opening as engines:
        yield engines[name]


@asynccontextmanager
async def triton_engines(
    url: str,
    names: Sequence[str],
    *,
    in_flight: int = 16,
    start_deadline_s: float = 30.0,
    limits: EngineLimits = DEFAULT_LIMITS,
    memory: SharedMemory | None = HOST_MEMORY,
) -> AsyncIterator[dict[str, TritonEngine]]:
    """Open engines for the models of the Triton at `url` (host:port of gRPC), by name.

    Of each model `in_flight` requests run at once. The limits' `bank_bytes` bounds the banks of all
    models and all processes of this host. Without `memory` all tensors are sent inline. Raise
    ModelMismatch, and Misconfigured if no Triton answers within `start_deadline_s`.
    """
    async with AsyncExitStack() as stack:
        cache: BankCache[TritonBank] = BankCache(limit_bytes=limits.bank_bytes)
        freeing = asyncio.Lock()
        engines: dict[str, TritonEngine] = {}
        for name in names:
            try:
                client = await stack.enter_async_context(
                    triton_client(
                        url,
                        name,
                        start_deadline_s=start_deadline_s,
                        clip_deadline_s=limits.clip_deadline_s,
                        in_flight=in_flight,
                        waiting=limits.waiting,
                    )
                )
            except EngineUnavailable as error:
                raise Misconfigured(f"TAMVT_TRITON_URL: {error}") from error
            regions = None
            if memory is not None:
                # Each model's own, so that one which is away keeps no other from its regions.
                regions = Regions(
                    client,
                    limit_bytes=limits.bank_bytes,
                    idle_s=memory.idle_s,
                    folder=memory.folder,
                    prefix=memory.prefix,
                    freeing=freeing,
                )
            engines[name] = TritonEngine(client, regions, cache)
        for engine in engines.values():
            await stack.enter_async_context(engine.tidying(engines.values()))
        yield engines


class TritonEngine:
    """Sends clips to Triton, each with its session's bank."""

    def __init__(
        self,
        client: TritonClient,
        regions: Regions | None,
        cache: BankCache[TritonBank],
    ) -> None:
        self._client = client
        self._regions = regions
        self._shared = SharedBanks(client, regions) if regions else None
        self._inline = InlineBanks(client, cache)
        self._removal_scheduled = asyncio.Event()
        self._warned = False
        self._cache = cache
        self.uses = BankUses()

    @property
    def calls(self) -> Sequence[CallTimes]:
        return (self._client.calls,)

    @property
    def spec(self) -> ModelSpec:
        return self._client.served.spec

    @property
    def runtime(self) -> str:
        return TRITON

    def estimate_wait_s(self, tenant: str) -> float:
        """See `base.Engine.estimate_wait_s`; Triton orders its queue, and knows no tenants."""
        return self._client.wait.seconds

    async def ready(self) -> None:
        """See `base.Engine.ready`."""
        await self._client.ready()

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
        lease = TritonLease(self, source)
        try:
            yield lease
        finally:
            lease.leave()
            if self._regions and self._regions.scheduled:
                self._removal_scheduled.set()

    def vitals(self) -> EngineVitals:
        """See `base.Engine.vitals`; the banks in shared memory are those of this host."""
        return EngineVitals(
            waiting=self._client.waiting,
            running=self._client.running,
            bank_bytes=self._cache.nbytes + (self._regions.nbytes if self._regions else 0),
            bank_hits=self.uses.hits,
            bank_rebuilds=self.uses.rebuilds,
        )

    @property
    def lacks_banks(self) -> bool:
        """See `base.Engine.lacks_banks`; where shared memory is used up, banks are sent inline."""
        return self._cache.is_half_leased

    async def discard(self, session_id: str) -> None:
        """See `base.Engine.discard`."""
        self._inline.discard(session_id)
        if self._regions:
            with suppress(EngineUnavailable):
                await self._regions.discard(session_id)
            if self._regions.scheduled:
                self._removal_scheduled.set()

    def banks(self) -> Sequence[Banks]:
        """Return where a bank may be kept, the faster first."""
        if self._shared is None:
            return (self._inline,)
        if not self._client.served.shares:
            self.warn(self._client.served.refusal)
            return (self._inline,)
        return (self._shared, self._inline)

    def warn(self, reason: str) -> None:
        """Log once that tensors are sent inline."""
        if not self._warned:
            self._warned = True
            log.warning("tensors go to Triton inline, which is slower: %s", reason)

    @asynccontextmanager
    async def tidying(self, engines: Collection[TritonEngine]) -> AsyncIterator[None]:
        """Drop useless regions within the block, and those of this engine at its end.

        Those that any of the `engines` can use are of use.
        """
        if self._regions is None or self._shared is None:
            yield
            return
        task = asyncio.create_task(self._tidy(self._regions, engines))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._shared.close()

    async def _tidy(self, regions: Regions, engines: Collection[TritonEngine]) -> None:
        """Remove scheduled regions soon, and sweep all of them every `SWEEP_S`."""
        loop = asyncio.get_running_loop()
        sweep_at = 0.0
        while True:
            try:
                if regions.scheduled:
                    await regions.remove_scheduled()
                if loop.time() >= sweep_at:
                    sweep_at = loop.time() + SWEEP_S
                    served = {engine.spec.weights_sha256 for engine in engines}
                    await regions.sweep(weights_sha256=served)
            except (EngineUnavailable, OSError) as error:
                log.debug("regions are tidied later: %s", error)
            self._removal_scheduled.clear()
            pause_s = RETRY_S if regions.scheduled else max(0.0, sweep_at - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await (
                        asyncio.sleep(pause_s)
                        if regions.scheduled
                        else self._removal_scheduled.wait()
                    )


class TritonLease:
    """One session's bank while it is written. Made by `TritonEngine.lease`."""

    def __init__(self, engine: TritonEngine, source: BankSource) -> None:
        self._engine = engine
        self._source = source
        self._taken: tuple[Banks, TritonBank] | None = None
        self._sound = False  # whether the bank that is taken holds what it says
        self._went_on = False  # a clip was segmented: the source's state is no longer the bank's
        self._state_rebuilt = False
        self._committed: int | None = None

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """See `base.BankLease.segment`."""
        self._committed = None
        for banks in self._engine.banks():
            try:
                bank = await self._bank_of(banks, before, object_ids, frames=len(frames))
                self._sound = False  # if this is interrupted, the bank is in doubt
                answer = await bank.segment(frames)
            except NoSharedMemory as error:
                self._engine.warn(str(error))
                self._give_up()
                continue
            self._sound = self._went_on = True
            answer = replace(answer, state_rebuilt=self._state_rebuilt)
            self._state_rebuilt = False
            return answer
        raise EngineUnavailable("there is no memory for the bank")

    async def remember(self, after: Memory) -> None:
        """See `base.BankLease.remember`."""
        assert self._sound, "a clip is segmented before it is remembered"
        assert self._taken is not None
        self._sound = False  # as in `segment`
        try:
            await self._taken[1].remember(after)
        except NoSharedMemory as error:
            raise EngineUnavailable(f"the bank was lost: {error}") from error
        self._sound = True

    def state(self) -> ModelState:
        """See `base.BankLease.state`."""
        assert self._sound, "there is no state but after a clip"
        assert self._taken is not None
        return self._taken[1].state()

    def commit(self, version: int) -> None:
        """See `base.BankLease.commit`."""
        self._committed = version

    def leave(self) -> None:
        """Keep a committed bank; drop any other."""
        if self._taken and self._sound and self._committed is not None:
            banks, bank = self._taken
            banks.keep(self._source.session_id, bank, version=self._committed)
            self._taken = None
        self._give_up()

    def _give_up(self) -> None:
        """Drop the bank that is taken, if there is one."""
        if self._taken:
            banks, bank = self._taken
            banks.give_up(bank)
        self._taken, self._sound = None, False

    async def _bank_of(
        self, banks: Banks, memory: Memory, object_ids: Sequence[int], *, frames: int
    ) -> TritonBank:
        """Return the bank of this memory, rebuilt if the one taken is of another."""
        if self._taken and self._sound and self._taken[1].holds(memory, object_ids):
            return self._taken[1]
        if memory != self._source.memory or (self._went_on and self._engine.spec.state):
            raise EngineUnavailable("the bank was lost in the middle of an append")
        self._give_up()
        bank, hit = await banks.take(
            self._source.session_id,
            version=self._source.version,
            memory=memory,
            object_ids=object_ids,
            model_size=self._source.model_size,
            frames=frames,
        )
        self._taken = (banks, bank)
        self._engine.uses.hits += hit
        self._engine.uses.rebuilds += not hit
        if not hit:
            pictures = await self._source.load()
            await bank.rebuild(pictures)
            if bank.spec.state:
                stored = await self._source.load_state(bank.spec, object_ids)
                again = entries_of_state(self._source, pictures, stored)
                await bank.rebuild_state(stored, again)
                self._state_rebuilt = stored is None
        return bank
