"""The Triton engine: each clip is a request to Triton, with its bank in shared memory if possible.

A clip is a pure function of its bank; its entry waits beside the bank until it is remembered. A
request that surely did not run is sent again. One of which that is not known is not, for it may
still write: its bank is given up, and the next try starts from the memory.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.engines.bank import BankCache
from service.engines.base import BankLease, ClipMasks, Pictures
from service.engines.pictures import check_pictures
from service.engines.triton.bank import TritonBank
from service.engines.triton.client import TritonClient, triton_client
from service.engines.triton.inline_bank import InlineBanks
from service.engines.triton.regions import PREFIX, SHARED_MEMORY, NoSharedMemory, Regions
from service.engines.triton.shared_bank import SharedBanks
from service.errors import EngineUnavailable, Misconfigured

log = logging.getLogger(__name__)

Banks = SharedBanks | InlineBanks

SWEEP_S = 60.0
DOOMED_S = 0.5


@asynccontextmanager
async def triton_engine(
    url: str,
    name: str,
    *,
    in_flight: int = 16,
    waiting: int = 32,
    bank_bytes: int = 2**30,
    idle_s: float = 3600.0,
    deadline_s: float = 60.0,
    start_deadline_s: float = 30.0,
    shared: bool = True,
    folder: Path = SHARED_MEMORY,
    prefix: str = PREFIX,
) -> AsyncIterator[TritonEngine]:
    """An engine for the model `name` of the Triton at `url` (host:port of gRPC).

    `in_flight` requests run at once and `waiting` more may wait; `bank_bytes` bounds the banks of
    all processes of this host, of which those not used for `idle_s` are dropped. Without `shared`
    no shared memory is used. Raises ModelMismatch, and Misconfigured if no Triton answers.
    """
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(
                triton_client(
                    url,
                    name,
                    start_deadline_s=start_deadline_s,
                    clip_deadline_s=deadline_s,
                    in_flight=in_flight,
                    waiting=waiting,
                )
            )
        except EngineUnavailable as error:
            raise Misconfigured(f"TAMVT_TRITON_URL: {error}") from error
        regions = Regions(
            client, limit_bytes=bank_bytes, idle_s=idle_s, folder=folder, prefix=prefix
        )
        engine = TritonEngine(client, regions, BankCache(limit_bytes=bank_bytes), shared=shared)
        await stack.enter_async_context(engine.tidied())
        yield engine


class TritonEngine:
    """Sends clips to Triton, each with its session's bank."""

    def __init__(
        self,
        client: TritonClient,
        regions: Regions,
        cache: BankCache[TritonBank],
        *,
        shared: bool,
    ) -> None:
        self._client = client
        self._regions = regions
        self._shared = SharedBanks(client, regions) if shared else None
        self._inline = InlineBanks(client, cache)
        self._removal_scheduled = asyncio.Event()
        self._warned = False

    @property
    def spec(self) -> ModelSpec:
        return self._client.served.spec

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
    ) -> AsyncIterator[BankLease]:
        """See `base.Engine.lease`."""
        lease = TritonLease(self, session_id, version, memory, model_size, pictures)
        try:
            yield lease
        finally:
            lease.leave()
            if self._regions.scheduled:
                self._removal_scheduled.set()

    async def discard(self, session_id: str) -> None:
        """See `base.Engine.discard`."""
        self._inline.discard(session_id)
        with suppress(EngineUnavailable):
            await self._regions.discard(session_id)
        if self._regions.scheduled:
            self._removal_scheduled.set()

    def banks(self) -> Sequence[Banks]:
        """Where a bank may be kept, the best place first."""
        if self._shared is None:
            return (self._inline,)
        if not self._client.served.shares:
            self.warn(self._client.served.refusal)
            return (self._inline,)
        return (self._shared, self._inline)

    def warn(self, reason: str) -> None:
        """Say once that tensors go inline."""
        if not self._warned:
            self._warned = True
            log.warning("tensors go to Triton inline, which is slower: %s", reason)

    @asynccontextmanager
    async def tidied(self) -> AsyncIterator[None]:
        """While inside, regions that are of no use go away; at the end, those of this process."""
        if self._shared is None:
            yield
            return
        task = asyncio.create_task(self._tidy())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await self._shared.close()

    async def _tidy(self) -> None:
        loop = asyncio.get_running_loop()
        sweep_at = 0.0
        while True:
            try:
                if self._regions.scheduled:
                    await self._regions.remove_scheduled()
                if loop.time() >= sweep_at:
                    sweep_at = loop.time() + SWEEP_S
                    await self._regions.sweep(weights_sha256=self.spec.weights_sha256)
            except (EngineUnavailable, OSError) as error:
                log.debug("regions are tidied later: %s", error)
            self._removal_scheduled.clear()
            pause_s = DOOMED_S if self._regions.scheduled else max(0.0, sweep_at - loop.time())
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await (
                        asyncio.sleep(pause_s)
                        if self._regions.scheduled
                        else self._removal_scheduled.wait()
                    )


class TritonLease:
    """One session's bank while it is written. Made by `TritonEngine.lease`."""

    def __init__(
        self,
        engine: TritonEngine,
        session_id: str,
        version: int,
        memory: Memory,
        model_size: tuple[int, int],
        pictures: Pictures,
    ) -> None:
        self._engine = engine
        self._session_id, self._version = session_id, version
        self._memory, self._model_size, self._pictures = memory, model_size, pictures
        self._taken: tuple[Banks, TritonBank] | None = None
        self._sound = False  # whether the bank that is taken holds what it says
        self._committed: int | None = None

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """See `base.BankLease.segment`."""
        self._committed = None
        for banks in self._engine.banks():
            try:
                bank = await self._bank_of(banks, before, object_ids, frames=len(frames))
                self._sound = False  # whatever interrupts us from here leaves it in doubt
                answer = await bank.segment(frames)
            except NoSharedMemory as error:
                self._engine.warn(str(error))
                self._let_go()
                continue
            self._sound = True
            return answer
        raise EngineUnavailable("there is no memory for the bank")

    def remember(self, after: Memory) -> None:
        """See `base.BankLease.remember`."""
        assert self._sound, "a clip is segmented before it is remembered"
        assert self._taken is not None
        self._taken[1].remember(after)

    def commit(self, version: int) -> None:
        """See `base.BankLease.commit`."""
        self._committed = version

    def leave(self) -> None:
        """The bank is kept if it was committed, otherwise given up."""
        if self._taken and self._sound and self._committed is not None:
            banks, bank = self._taken
            banks.keep(self._session_id, bank, version=self._committed)
            self._taken = None
        self._let_go()

    def _let_go(self) -> None:
        if self._taken:
            banks, bank = self._taken
            banks.give_up(bank)
        self._taken, self._sound = None, False

    async def _bank_of(
        self, banks: Banks, memory: Memory, object_ids: Sequence[int], *, frames: int
    ) -> TritonBank:
        """The bank of this memory, rebuilt if the one at hand is another."""
        if self._taken and self._sound and self._taken[1].holds(memory, object_ids):
            return self._taken[1]
        if memory != self._memory:
            raise EngineUnavailable("the bank was lost in the middle of an append")
        self._let_go()
        bank, hit = await banks.take(
            self._session_id,
            version=self._version,
            memory=memory,
            object_ids=object_ids,
            model_size=self._model_size,
            frames=frames,
        )
        self._taken = (banks, bank)
        if not hit:
            pictures = await self._pictures()
            check_pictures(
                pictures, memory, session_id=self._session_id, model_size=self._model_size
            )
            await bank.rebuild(pictures)
        return bank
