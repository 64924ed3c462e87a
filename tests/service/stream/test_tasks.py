"""Tasks are ended for certain, and in silence."""

from __future__ import annotations

import asyncio
import gc

import pytest

from service.stream.tasks import end_tasks

pytestmark = pytest.mark.anyio

GONE = "the client is gone"


async def fail() -> None:
    raise OSError(GONE)


async def test_tasks_that_fail_together_leave_nothing_to_complain_of() -> None:
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(str(context.get("exception"))))
    try:
        tasks = [asyncio.create_task(fail()) for _ in range(2)]
        await asyncio.wait(tasks)
        await end_tasks(tasks)
        assert all(isinstance(task.exception(), OSError) for task in tasks)
        del tasks
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert GONE not in complaints


async def test_a_task_that_swallows_its_first_cancellation_is_ended() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(1000)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await end_tasks([task])
    assert task.cancelled()
