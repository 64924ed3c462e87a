"""Threads for what blocks: decoding, encoding, drawing. The event loop only waits.

A pool of our own and no limiter of anyio: a call begins when it is handed over, not when somebody
awaits it, and a stream that ends forgets its result at once (decision 57).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, Self, TypeVar

from service.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")
CLOSE_S: Final = 0.5  # for threads to end by themselves
POLL_S: Final = 0.01
ASIDE_BYTES: Final = 100_000  # JSON and a digest of so many take about a millisecond

log = logging.getLogger(__name__)


class Workers:
    """A fixed number of threads. Admission bounds the calls that wait for one."""

    def __init__(self, *, threads: int, stuck_s: float = 300.0) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="tamvt-worker")
        self._stuck_s = stuck_s
        self._began: dict[int, float] = {}  # the call of each busy thread

    def start(
        self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> asyncio.Future[T]:
        """Start the call in a thread and return its future result."""

        def run() -> T:
            thread = threading.get_ident()
            self._began[thread] = time.monotonic()
            try:
                return function(*args, **kwargs)
            finally:
                del self._began[thread]

        return asyncio.get_running_loop().run_in_executor(self._pool, run)

    def check_moving(self) -> None:
        """Raise Overloaded while a call runs for longer than any request may take."""
        now = time.monotonic()
        oldest_s = now - min(list(self._began.values()), default=now)
        if oldest_s > self._stuck_s:
            raise Overloaded(f"a thread has worked on one thing for {oldest_s:.0f} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # A thread cannot be stopped: it is left behind, and `end_if_stuck` is the last resort.
        self._pool.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + CLOSE_S
        while self._began and time.monotonic() < until:
            time.sleep(POLL_S)


async def run_aside(function: Callable[[], T], *, nbytes: int) -> T:
    """Return what a pure function returns, from a thread where it has many bytes to go through."""
    return function() if nbytes <= ASIDE_BYTES else await asyncio.to_thread(function)


def use_own_executor(loop: asyncio.AbstractEventLoop) -> ThreadPoolExecutor:
    """Give the loop an executor for `asyncio.to_thread` that `end_if_stuck` can do without."""
    executor = ThreadPoolExecutor(thread_name_prefix="tamvt-thread")
    loop.set_default_executor(executor)
    return executor


def end_if_stuck(executor: ThreadPoolExecutor) -> None:
    """End the process with status 0 if a thread still works: Python would wait for it for ever.

    Call it last, when everything else is closed.
    """
    executor.shutdown(wait=False, cancel_futures=True)
    until = time.monotonic() + CLOSE_S
    ours = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]
    for thread in ours:
        thread.join(max(0.0, until - time.monotonic()))
    stuck = [thread.name for thread in ours if thread.is_alive()]
    if stuck:
        log.warning("the process ends while %s still work", ", ".join(stuck))
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
