"""One look for all streams of a process: whether they are still their sessions'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.errors import CorruptSession, StoreUnavailable
from service.store.session_store import SessionStore, new_session_id, open_store
from service.stream.ownership import Ownership, watch_ownership

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(redis_url: str) -> AsyncIterator[SessionStore]:
    async with open_store(redis_url, ttl_s=60) as opened:
        yield opened


async def claimed(store: SessionStore, *, streams: int) -> list[Ownership]:
    found = [Ownership(store, new_session_id()) for _ in range(streams)]
    for ownership in found:
        await ownership.claim()
    return found


async def test_only_the_stream_that_was_replaced_hears_it(store: SessionStore) -> None:
    streams = await claimed(store, streams=3)
    await Ownership(store, streams[1].session_id).claim()
    async with watch_ownership(store, every_s=0.05) as watch:
        looks = await asyncio.gather(*(watch.look(stream) for stream in streams))
    assert looks == [True, False, True]


async def test_a_session_that_nobody_claims_any_more_is_claimed_again(
    redis_url: str, store: SessionStore
) -> None:
    (stream,) = await claimed(store, streams=1)
    async with Redis.from_url(redis_url) as redis, watch_ownership(store, every_s=0.05) as watch:
        key = f"tamvt:{{{stream.session_id}}}:stream"
        await redis.delete(key)
        assert await watch.look(stream)
        assert await redis.exists(key)


async def test_fifty_streams_are_one_question(redis_url: str, store: SessionStore) -> None:
    streams = await claimed(store, streams=50)
    async with Redis.from_url(redis_url) as redis, watch_ownership(store, every_s=0.2) as watch:
        before = (await redis.info("stats"))["total_commands_processed"]
        for _ in range(2):
            assert all(await asyncio.gather(*(watch.look(stream) for stream in streams)))
        after = (await redis.info("stats"))["total_commands_processed"]
    assert after - before < 20


async def test_one_damaged_note_is_that_stream_s_only(redis_url: str, store: SessionStore) -> None:
    damaged, whole = await claimed(store, streams=2)
    async with Redis.from_url(redis_url) as redis, watch_ownership(store, every_s=0.05) as watch:
        key = f"tamvt:{{{damaged.session_id}}}:stream"
        await redis.delete(key)
        await redis.rpush(key, "not a word")
        looks = [watch.look(damaged), watch.look(whole)]
        found = await asyncio.gather(*looks, return_exceptions=True)
    assert isinstance(found[0], CorruptSession)
    assert found[1] is True


async def test_everybody_hears_that_the_store_is_away_and_may_ask_again() -> None:
    async with (
        open_store("redis://127.0.0.1:1", ttl_s=60) as store,
        watch_ownership(store, every_s=0.05) as watch,
    ):
        streams = [Ownership(store, new_session_id()) for _ in range(2)]
        for _ in range(2):
            looks = (watch.look(stream) for stream in streams)
            found = await asyncio.gather(*looks, return_exceptions=True)
            assert all(isinstance(error, StoreUnavailable) for error in found)


async def test_who_leaves_while_it_waits_disturbs_nobody(store: SessionStore) -> None:
    leaving, staying = await claimed(store, streams=2)
    async with watch_ownership(store, every_s=0.2) as watch:
        gone = asyncio.create_task(watch.look(leaving))
        look = asyncio.create_task(watch.look(staying))
        await asyncio.sleep(0)  # both have asked
        gone.cancel()
        assert await look
        assert gone.cancelled()
