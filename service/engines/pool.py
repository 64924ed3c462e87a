"""Threads that run the model: a bounded queue in which each tenant has its fair share.

Whoever has been served the least is next (start-time fair queueing): a tenant that sends more than
the others waits for itself. The tenant is that of the context in which work is handed over.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from service.engines.inference import Inference
from service.errors import EngineUnavailable, Overloaded

T = TypeVar("T")
TENANTS_AT_ONCE: Final = 4  # that may all fill their part of the queue
REMEMBERED_S: Final = 5.0  # the last wait tells of the queue for so long
SMOOTHING: Final = 0.2  # of the usual time of one piece of work

# Whose work is handed over. A variable of the context: the contract of engines knows no tenants.
served_tenant: ContextVar[str] = ContextVar("served_tenant", default="")


@contextmanager
def serving(tenant: str) -> Iterator[None]:
    """Hand work over for this tenant within the block; what the task does next is another's."""
    before = served_tenant.get()
    served_tenant.set(tenant)
    try:
        yield
    finally:
        served_tenant.set(before)


class QueueWait:
    """How long work waited lately. It is written by threads and read by the event loop."""

    def __init__(self) -> None:
        self._waited_s, self._at_s = 0.0, float("-inf")

    def note(self, waited_s: float) -> None:
        """Note how long the work that begins now has waited."""
        self._waited_s, self._at_s = waited_s, time.monotonic()

    @property
    def seconds(self) -> float:
        """Return what the last wait was, 0 if that is long ago."""
        return self._waited_s if time.monotonic() - self._at_s < REMEMBERED_S else 0.0


@dataclass(eq=False)
class Work:
    """Work that waits, or runs."""

    tenant: str
    run: Callable[[Inference], Any]
    inference: Inference = field(default_factory=Inference)
    future: Future[Any] = field(default_factory=Future)
    since_s: float = field(default_factory=time.monotonic)


class FairQueue:
    """Work by tenant; all but its order is the caller's affair, and so is its lock."""

    def __init__(self, *, workers: int = 1) -> None:
        self._workers = workers  # that take from it
        self._waiting: dict[str, deque[Work]] = defaultdict(deque)  # none of them is empty
        self._waits: dict[str, QueueWait] = {}  # of those whose work was taken lately
        self._served_s: dict[str, float] = {}  # of those who wait, or were served lately
        self._now_s = 0.0  # what the tenant that is served had been served before
        self._usual_s = 0.0  # of one piece of work

    def add(self, work: Work) -> None:
        """Add work at the end of its tenant's; one that was away has saved nothing up."""
        self._waiting[work.tenant].append(work)
        self._served_s[work.tenant] = max(self._served_s.get(work.tenant, 0.0), self._now_s)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def take(self) -> Work:
        """Remove and return the first work of the tenant that was served the least."""
        tenant = min(self._waiting, key=lambda name: self._served_s[name])
        work = self._waiting[tenant][0]
        self.remove(work)
        self._now_s = max(self._now_s, self._served_s[tenant])
        self._served_s[tenant] += self._usual_s  # until it is known better
        self._waits = {name: wait for name, wait in self._waits.items() if wait.seconds}
        self._waits.setdefault(tenant, QueueWait()).note(time.monotonic() - work.since_s)
        return work

    def remove(self, work: Work) -> None:
        """Remove work that shall not run, unless it was taken."""
        works = self._waiting.get(work.tenant)
        if works is None or work not in works:
            return
        works.remove(work)
        if not works:
            del self._waiting[work.tenant]

    def refund(self, tenant: str) -> None:
        """Count nothing for a piece of work that was taken and did not run."""
        if tenant in self._served_s:
            self._served_s[tenant] -= self._usual_s

    def charge(self, tenant: str, spent_s: float) -> None:
        """Count what a piece of work took, instead of what one usually takes."""
        self._served_s[tenant] = self._served_s.get(tenant, self._now_s) + spent_s - self._usual_s
        self._usual_s += SMOOTHING * (spent_s - self._usual_s)
        for name in [n for n, served_s in self._served_s.items() if served_s <= self._now_s]:
            if name not in self._waiting:
                del self._served_s[name]

    def estimate_wait_s(self, tenant: str) -> float:
        """Return how long this tenant's work waits: as its own does or did lately.

        But at least until each tenant that waits has had one piece of work done.
        """
        own, lately = self._waiting.get(tenant), self._waits.get(tenant)
        return max(
            time.monotonic() - own[0].since_s if own else 0.0,
            lately.seconds if lately else 0.0,
            self._usual_s * len(self._waiting) / self._workers,
        )

    def clear(self) -> list[Work]:
        """Remove and return all that waits."""
        left = [work for works in self._waiting.values() for work in works]
        self._waiting.clear()
        return left


class Pool:
    """A bounded pool of threads with a bounded queue.

    anyio's limiter waits without a bound, and its threads outlive a cancelled call uncounted; here
    work is refused at once when the tenant's part of the queue is full, and is counted until its
    thread is free.
    """

    def __init__(self, *, workers: int, queue: int, deadline_s: float) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="engine")
        self._lock = threading.Lock()  # of the queue and the counts
        self._queue = FairQueue(workers=workers)
        self._turns = 0  # that threads are asked to take, and have not begun
        self._counts: dict[str, int] = {}  # work of each tenant
        self._total = 0
        self._most = workers + queue  # of one tenant
        self._deadline_s = deadline_s
        self._workers = workers
        self._open = True

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return max(0, self._total - self._workers)

    @property
    def running(self) -> int:
        """How many calls have a thread."""
        return min(self._total, self._workers)

    def check(self) -> None:
        """Raise EngineUnavailable once the pool is closed."""
        if not self._open:
            raise EngineUnavailable("the engine is shutting down")

    def estimate_wait_s(self, tenant: str) -> float:
        """Return how long work of this tenant waits for a thread."""
        with self._lock:
            return self._queue.estimate_wait_s(tenant)

    async def run(self, work: Callable[[Inference], T]) -> T:
        """Return what `work` returns.

        Raise Overloaded if the queue is full, EngineUnavailable beyond the deadline. Work that was
        cancelled is stopped at its next step, or never starts; it is counted until it has ended.
        """
        self.check()
        waiting = Work(served_tenant.get(), work)
        tenant = waiting.tenant
        with self._lock:
            most = TENANTS_AT_ONCE * self._most
            if self._counts.get(tenant, 0) >= self._most or self._total >= most:
                raise Overloaded("too many clips wait for the model")
            self._counts[tenant] = self._counts.get(tenant, 0) + 1
            self._total += 1
            self._queue.add(waiting)
            # As many turns as there is work: each takes what is next when a thread is free.
            is_short = self._turns < len(self._queue)
            self._turns += is_short
        waiting.future.add_done_callback(lambda _: self._leave(waiting))
        if is_short:
            self._executor.submit(self._run_next)
        try:
            async with asyncio.timeout(self._deadline_s):
                result: T = await asyncio.wrap_future(waiting.future)
                return result
        except TimeoutError as error:
            raise EngineUnavailable(f"no masks within {self._deadline_s} s") from error
        finally:
            if not waiting.future.done():
                waiting.inference.stop()

    def close(self) -> None:
        """Cancel what waits, and wait until what runs has ended."""
        self._open = False
        with self._lock:
            left = self._queue.clear()
        for work in left:
            work.future.cancel()
        self._executor.shutdown(cancel_futures=True)

    def _run_next(self) -> None:
        with self._lock:
            self._turns -= 1
            if not len(self._queue):  # what it was for was cancelled
                return
            work = self._queue.take()
        if not work.future.set_running_or_notify_cancel():
            with self._lock:
                self._queue.refund(work.tenant)
            return
        begun = time.monotonic()
        try:
            result = work.run(work.inference)
        except BaseException as error:
            self._charge(work, spent_s=time.monotonic() - begun)
            work.future.set_exception(error)
        else:
            self._charge(work, spent_s=time.monotonic() - begun)
            work.future.set_result(result)

    def _charge(self, work: Work, *, spent_s: float) -> None:
        with self._lock:
            self._queue.charge(work.tenant, spent_s)

    def _leave(self, work: Work) -> None:
        with self._lock:
            if work.future.cancelled():
                self._queue.remove(work)
            self._total -= 1
            self._counts[work.tenant] -= 1
            if not self._counts[work.tenant]:
                del self._counts[work.tenant]
