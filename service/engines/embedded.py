"""The embedded engine: ONNX Runtime in this process, in a bounded pool of threads.

Letters: B entries of a batch, L frames, O objects, h and w the model's size.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec, entry_output
from model.core.memory import Memory
from service.engines.bank import Bank, BankCache, Tensors, bank_bytes
from service.engines.base import BankLease, ClipMasks, Picture, Pictures
from service.engines.graphs import Graphs, Run, open_graphs
from service.engines.pictures import MASKS_PER_BATCH, arranged, check_pictures, only_known
from service.errors import EngineUnavailable, Overloaded

T = TypeVar("T")


@asynccontextmanager
async def embedded_engine(
    folder: Path,
    name: str,
    *,
    threads: int = 0,
    workers: int = 1,
    queue: int = 32,
    bank_bytes: int = 2**30,
    deadline_s: float = 60.0,
) -> AsyncIterator[EmbeddedEngine]:
    """An engine for the model `name` in `folder`, warm; ModelMissing, ModelMismatch.

    `threads` is that of one inference (0: one for each processor), `workers` how many run at
    once, `queue` how many more may wait, `deadline_s` the longest a clip may take with its wait.
    """
    threads = threads or len(os.sched_getaffinity(0))
    graphs = await asyncio.to_thread(open_graphs, folder, name, threads=threads)
    pool = Pool(workers=workers, queue=queue, deadline_s=deadline_s)
    engine = EmbeddedEngine(graphs, pool, BankCache(limit_bytes=bank_bytes))
    try:
        await engine.warm_up()
        yield engine
    finally:
        await asyncio.to_thread(pool.close)


class Pool:
    """A bounded pool of threads with a bounded queue."""

    def __init__(self, *, workers: int, queue: int, deadline_s: float) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="engine")
        self._places = threading.Semaphore(workers + queue)
        self._deadline_s = deadline_s
        self._open = True

    def check(self) -> None:
        """EngineUnavailable once the pool is closed."""
        if not self._open:
            raise EngineUnavailable("the engine is shutting down")

    async def run(self, work: Callable[[Run], T]) -> T:
        """What `work` gives; Overloaded if too much waits, EngineUnavailable beyond the deadline.

        Work that nobody waits for any more is stopped at its next step, or never starts; it keeps
        its place until it has ended.
        """
        self.check()
        if not self._places.acquire(blocking=False):
            raise Overloaded("too many clips wait for the model")
        run = Run()
        future = self._executor.submit(work, run)
        future.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise EngineUnavailable(f"no masks within {self._deadline_s} s") from error
        finally:
            if not future.done():
                run.stop()

    def close(self) -> None:
        """Wait for what runs; what waits is cancelled."""
        self._open = False
        self._executor.shutdown(cancel_futures=True)


class EmbeddedEngine:
    """Runs clips one by one, each with its session's bank."""

    def __init__(self, graphs: Graphs, pool: Pool, banks: BankCache[Bank]) -> None:
        self._graphs = graphs
        self._pool = pool
        self._banks = banks

    @property
    def spec(self) -> ModelSpec:
        return self._graphs.spec

    async def ready(self) -> None:
        """Nothing while the engine is open; EngineUnavailable otherwise."""
        self._pool.check()

    async def warm_up(self) -> None:
        """Run both graphs once at the first size that is served."""
        height, width = self.spec.buckets.sizes[0]
        frames = np.zeros((self.spec.clip_length, height, width, 3), np.uint8)
        blank = Picture(frames[0], np.zeros((1, height, width), np.uint8))
        memory = Memory.start(0, [1], capacity=1)
        bank = Bank(self.spec, (height, width), memory, [1])
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
        bank = self._banks.take(session_id, version=version, memory=memory)
        lease = EmbeddedLease(
            session_id,
            self._graphs,
            self._pool,
            self._banks,
            bank,
            memory,
            model_size,
            pictures,
        )
        try:
            yield lease
        finally:
            lease.leave()

    async def discard(self, session_id: str) -> None:
        """See `base.Engine.discard`."""
        self._banks.drop(session_id)


class EmbeddedLease:
    """One session's bank while it is written. Made by `EmbeddedEngine.lease`."""

    def __init__(
        self,
        session_id: str,
        graphs: Graphs,
        pool: Pool,
        banks: BankCache[Bank],
        bank: Bank | None,
        memory: Memory,
        model_size: tuple[int, int],
        pictures: Pictures,
    ) -> None:
        self._session_id = session_id
        self._graphs, self._pool, self._banks = graphs, pool, banks
        self._bank = bank  # None while it is not known to hold the memory
        self._entry: Tensors | None = None  # of the clip that was segmented last
        self._leased_bytes = bank.nbytes if bank else 0
        self._memory, self._model_size, self._pictures = memory, model_size, pictures
        self._committed = False

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """See `base.BankLease.segment`."""
        self._committed = False
        bank = await self._bank_of(before, object_ids)
        self._entry = None
        self._bank = None  # whatever interrupts us from here leaves it in doubt
        graphs = self._graphs
        answer, entry = await self._pool.run(lambda run: segment(graphs, run, bank, frames))
        self._bank, self._entry = bank, entry
        return answer

    def remember(self, after: Memory) -> None:
        """See `base.BankLease.remember`."""
        bank, entry = self._bank, self._entry
        assert bank is not None, "a clip is segmented before it is remembered"
        assert entry is not None, "a clip is remembered once"
        known = only_known(self._graphs.spec, entry, after.newest, bank.object_ids)
        bank.write(after.newest.slot, known)
        bank.memory, self._entry = after, None

    def commit(self, version: int) -> None:
        """See `base.BankLease.commit`."""
        self._committed = True
        if self._bank is not None:
            self._bank.version = version

    def leave(self) -> None:
        """The bank goes back to the cache if it was committed, otherwise away."""
        self._banks.release(self._leased_bytes)
        if self._committed and self._bank is not None:
            self._banks.keep(self._session_id, self._bank)

    async def _bank_of(self, memory: Memory, object_ids: Sequence[int]) -> Bank:
        """The bank of this memory, rebuilt if the one at hand is another."""
        if self._bank is not None and self._bank.holds(memory, object_ids, self._model_size):
            return self._bank
        if memory != self._memory:
            raise EngineUnavailable("the bank was lost in the middle of an append")
        self._bank = None
        self._banks.release(self._leased_bytes)
        self._leased_bytes = 0
        nbytes = bank_bytes(self._graphs.spec, self._model_size, memory, object_ids)
        self._banks.reserve(nbytes)
        self._leased_bytes = nbytes
        bank = Bank(self._graphs.spec, self._model_size, memory, object_ids)
        pictures = await self._pictures()
        check_pictures(
            pictures, self._memory, session_id=self._session_id, model_size=self._model_size
        )
        await self._pool.run(lambda run: rebuild(self._graphs, run, bank, pictures))
        return bank


def segment(
    graphs: Graphs, run: Run, bank: Bank, frames: NDArray[np.uint8]
) -> tuple[ClipMasks, Tensors]:
    """The masks of frames (L, h, w, 3), and the last one's entry, (T, C) or (O, T, C) by name."""
    outputs = run(graphs.segment, {"frames": frames[None], **bank.inputs()})
    entry = {t.name: outputs[entry_output(t.name)][0] for t in graphs.spec.bank}
    found = ClipMasks(
        outputs["masks"][0],
        outputs["confidence"][0],
        batch_size=1,
        weights_sha256=graphs.spec.weights_sha256,
    )
    return found, entry


def rebuild(graphs: Graphs, run: Run, bank: Bank, pictures: Sequence[Picture]) -> None:
    """Fill the bank with the entries of its memory, made of their pictures in that order."""
    entries = bank.memory.entries
    size = max(1, MASKS_PER_BATCH // len(bank.object_ids))
    pairs = list(zip(entries, pictures, strict=True))
    for batch in (pairs[start : start + size] for start in range(0, len(pairs), size)):
        frame = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
        masks = np.stack([arranged(*pair, bank.object_ids) for pair in batch])  # (B, O, h, w)
        outputs = run(graphs.memorize, {"frame": frame, "masks": masks})
        for row, (entry, _) in enumerate(batch):
            made = {name: values[row] for name, values in outputs.items()}
            bank.write(entry.slot, only_known(graphs.spec, made, entry, bank.object_ids))
