"""Memory that glibc keeps for the process instead of returning it after every inference.

What lies free between blocks in use grows with whatever was in use at once, so that resident
memory creeps up for hours although nothing is held. It goes back once in a while.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

RETURN_EVERY_S: Final = 20.0
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4


def keep_large_blocks() -> bool:
    """Let glibc keep freed memory; return False if the C library cannot.

    Call it in an entry point, before the first large allocation. Otherwise the page faults of
    buffers that are returned and fetched again can cost more than the model (docs/operations.md).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    choices = {M_MMAP_MAX: 0, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in choices.items())


@asynccontextmanager
async def return_free_memory(*, every_s: float = RETURN_EVERY_S) -> AsyncIterator[None]:
    """Give free pages back to the system at this interval, until the block is left.

    It takes a millisecond in a thread, and some thousand page faults of the next clips. A C
    library that has no `malloc_trim` keeps them.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    async def run() -> None:
        while trim is not None:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(trim, 0)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
