"""The embedded engine: the model in this process, in a bounded pool of threads.

Letters: B entries of a batch, L frames, O objects, h and w the model's size.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec, entry_output
from model.core.memory import Memory
from service.engines.bank import BankCache, BankUses, EmbeddedBank, Tensors, bank_bytes
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
from service.engines.pictures import MASKS_PER_BATCH, BankSource, arrange_masks, clear_unknown
from service.engines.pool import Pool
from service.engines.runtimes import ONNX_RUNTIME_ONLY, RuntimeOptions, choose_runtime
from service.errors import EngineUnavailable
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

    @property
    def queue_s(self) -> float:
        return self._pool.queue_s

    @property
    def calls(self) -> Sequence[CallTimes]:
        return ()

    async def ready(self) -> None:
        """See `base.Engine.ready`."""
        self._pool.check()

    async def warm_up(self) -> None:
        """Run both graphs once at the first size that is served."""
        height, width = self.spec.buckets.sizes[0]
        frames = np.zeros((self.spec.clip_length, height, width, 3), np.uint8)
        blank = EntryPicture(frames[0], np.zeros((1, height, width), np.uint8))
        usual = 1 if self._graphs.any_shape else self.spec.memory_size
        memory = Memory.start(0, [1], capacity=usual)
        bank = EmbeddedBank(self.spec, (height, width), memory, [1])
        await self._pool.run(lambda run: rebuild(self._graphs, run, bank, [blank]))
        await self._pool.run(lambda run: segment(self._graphs, run, bank, frames))

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
        source = BankSource(session_id, version, memory, model_size, pictures)
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
        self._entry: Tensors | None = None  # of the clip that was segmented last
        self._committed = False

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """See `base.BankLease.segment`."""
        self._committed = False
        bank = await self._bank_of(before, object_ids)
        self._entry = None
        self._bank = None  # if this is interrupted, its tensors are in doubt
        graphs = self._graphs
        answer, entry = await self._pool.run(lambda run: segment(graphs, run, bank, frames))
        self._bank, self._entry = bank, entry
        return answer

    def remember(self, after: Memory) -> None:
        """See `base.BankLease.remember`."""
        bank, entry = self._bank, self._entry
        assert bank is not None, "a clip is segmented before it is remembered"
        assert entry is not None, "a clip is remembered once"
        known = clear_unknown(self._graphs.spec, entry, after.newest, bank.object_ids)
        bank.write(after.newest.slot, known)
        bank.memory, self._entry = after, None

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
        if memory != self._source.memory:
            raise EngineUnavailable("the bank was lost in the middle of an append")
        self._bank = None
        self._uses.rebuilds += 1
        self._banks.release(self._leased_bytes)
        self._leased_bytes = 0
        nbytes = bank_bytes(self._graphs.spec, size, memory, object_ids)
        self._banks.reserve(nbytes)
        self._leased_bytes = nbytes
        bank = EmbeddedBank(self._graphs.spec, size, memory, object_ids)
        pictures = await self._source.load()
        await self._pool.run(lambda run: rebuild(self._graphs, run, bank, pictures))
        return bank


def segment(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, frames: NDArray[np.uint8]
) -> tuple[ClipMasks, Tensors]:
    """Return the masks of frames (L, h, w, 3) and the last one's entry, (T, C) or (O, T, C)."""
    begun = time.monotonic()
    outputs = run(
        graphs.segment, {"frames": frames[None], **bank.inputs(whole=not graphs.any_shape)}
    )
    entry = {t.name: outputs[entry_output(t.name)][0] for t in graphs.spec.bank}
    found = ClipMasks(
        outputs["masks"][0],
        outputs["confidence"][0],
        batch_size=1,
        weights_sha256=graphs.spec.weights_sha256,
        runtime=graphs.runtime,
        engine_s=time.monotonic() - begun,
    )
    return found, entry


def rebuild(
    graphs: Graphs, run: Inference, bank: EmbeddedBank, pictures: Sequence[EntryPicture]
) -> None:
    """Fill the bank with the entries of its memory; the pictures are in the same order."""
    entries = bank.memory.entries
    size = max(1, MASKS_PER_BATCH // len(bank.object_ids)) if graphs.any_shape else 1
    pairs = list(zip(entries, pictures, strict=True))
    for batch in (pairs[start : start + size] for start in range(0, len(pairs), size)):
        frame = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
        masks = np.stack([arrange_masks(*pair, bank.object_ids) for pair in batch])  # (B, O, h, w)
        outputs = run(graphs.memorize, {"frame": frame, "masks": masks})
        for row, (entry, _) in enumerate(batch):
            made = {name: values[row] for name, values in outputs.items()}
            bank.write(entry.slot, clear_unknown(graphs.spec, made, entry, bank.object_ids))
