"""End tasks for certain, where a group of anyio would cancel at every turn (decision 57)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

AGAIN_S: Final = 0.1


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel the tasks and wait until all have ended; what they raised stays with them.

    Asking them for it is optional: of tasks that end together, one is enough to say why. A task
    is cancelled again until it has ended: before Python 3.12 `asyncio.wait_for`, through which
    redis-py writes, swallows a cancellation that comes together with its result.
    """
    tasks = list(tasks)
    left = [task for task in tasks if not task.done()]
    while left:
        for task in left:
            task.cancel()
        _, pending = await asyncio.wait(left, timeout=AGAIN_S)
        left = list(pending)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # otherwise asyncio complains that nobody did
