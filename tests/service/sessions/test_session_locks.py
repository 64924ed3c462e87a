"""One at a time for each session, and no lock is left behind."""

from __future__ import annotations

import asyncio

import pytest

from service.errors import Overloaded
from service.sessions.session_locks import SessionLocks

pytestmark = pytest.mark.anyio


async def test_a_session_is_locked_by_one_at_a_time() -> None:
    locks, inside, most = SessionLocks(deadline_s=5), 0, 0

    async def visit() -> None:
        nonlocal inside, most
        async with locks.acquire("a"):
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(10)))
    assert most == 1
    assert len(locks) == 0


async def test_sessions_do_not_wait_for_each_other() -> None:
    locks = SessionLocks(deadline_s=1)
    async with locks.acquire("a"), locks.acquire("b"):
        assert len(locks) == 2
    assert len(locks) == 0


async def test_a_lock_that_does_not_come_free_in_time_is_an_overload() -> None:
    locks = SessionLocks(deadline_s=0.02)
    async with locks.acquire("a"):
        with pytest.raises(Overloaded):
            async with locks.acquire("a"):
                pass
        assert len(locks) == 1
    assert len(locks) == 0


async def test_who_has_a_lock_hears_that_somebody_waits_for_it() -> None:
    locks, told = SessionLocks(deadline_s=5), 0

    def tell() -> None:
        nonlocal told
        told += 1

    async def visit() -> None:
        async with locks.acquire("a"):
            pass

    async with locks.acquire("a", on_wanted=tell), locks.acquire("b"):
        assert told == 0
        waiting = asyncio.create_task(visit())
        await asyncio.sleep(0)
        assert told == 1
    await waiting
    await visit()
    assert told == 1


async def test_who_gets_a_lock_hears_of_those_who_wait_already() -> None:
    locks, told = SessionLocks(deadline_s=5), asyncio.Event()

    async def visit() -> None:
        async with locks.acquire("a", on_wanted=told.set):
            await told.wait()

    async with locks.acquire("a"):
        waiting = [asyncio.create_task(visit()) for _ in range(2)]
        await asyncio.sleep(0)
        assert not told.is_set()
    await asyncio.gather(*waiting)
