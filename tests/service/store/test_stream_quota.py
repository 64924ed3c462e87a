"""Streams of a tenant, counted over all gateways by their sessions."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from service.errors import TooMany
from service.store import stream_quota
from service.store.redis_client import open_redis
from service.store.stream_quota import StreamQuota

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, deadline_s=30.0, max_connections=8) as client:
        assert isinstance(client, Redis)
        yield client


@pytest.fixture
def tenant() -> str:
    return secrets.token_hex(8)


def quota(redis: Redis, *, most: int) -> StreamQuota:
    return StreamQuota(redis, most=most, deadline_s=30.0)


async def test_two_gateways_share_a_quota_and_a_closed_stream_makes_room(
    redis: Redis, tenant: str
) -> None:
    here, there = quota(redis, most=3), quota(redis, most=3)
    async with AsyncExitStack() as stack:
        opening = [
            stack.enter_async_context(gateway.reserve(tenant, f"session-{number}"))
            for number, gateway in enumerate([here, there] * 5)
        ]
        found = await asyncio.gather(*opening, return_exceptions=True)
        assert sum(isinstance(each, TooMany) for each in found) == 7
        async with here.reserve(secrets.token_hex(8), "of another tenant"):
            pass
    async with there.reserve(tenant, "another"):
        pass


async def test_a_session_that_connects_again_is_counted_once(redis: Redis, tenant: str) -> None:
    here, there = quota(redis, most=1), quota(redis, most=1)
    async with AsyncExitStack() as stack:
        async with here.reserve(tenant, "mine"):
            await stack.enter_async_context(there.reserve(tenant, "mine"))
        # The stream that was replaced has left: the one that replaced it is still counted.
        with pytest.raises(TooMany):
            async with here.reserve(tenant, "other"):
                pass
    async with here.reserve(tenant, "other"):
        pass


async def test_a_gateway_that_died_counts_for_a_minute_and_a_living_one_on(
    redis: Redis, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_quota, "RENEWED_S", 0.01)
    here = quota(redis, most=1)
    name = f"tamvt:{{tenant:{tenant}}}:streams"
    async with here.reserve(tenant, "living"):
        await redis.zadd(name, {"living": 1})  # as if a minute had passed
        async with asyncio.timeout(30):
            while (await redis.zscore(name, "living")) == 1:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        with pytest.raises(TooMany):
            async with here.reserve(tenant, "next"):
                pass
    await redis.zadd(name, {"of one that died": 1})
    await redis.hset(f"{name[:-1]}-tokens", "of one that died", "token")
    async with here.reserve(tenant, "next"):
        assert await redis.zrange(name, 0, -1) == [b"next"]
        assert await redis.hkeys(f"{name[:-1]}-tokens") == [b"next"]


async def test_a_living_stream_that_was_cleared_away_is_counted_again(
    redis: Redis, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_quota, "RENEWED_S", 0.01)
    here = quota(redis, most=1)
    name = f"tamvt:{{tenant:{tenant}}}:streams"
    async with here.reserve(tenant, "living"):
        # As if another stream had come after a minute in which no gateway reached Redis.
        await redis.hdel(f"{name[:-1]}-tokens", "living")
        await redis.zrem(name, "living")
        async with asyncio.timeout(30):
            while (await redis.zscore(name, "living")) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await redis.hkeys(f"{name[:-1]}-tokens") == [b"living"]
    assert not await redis.exists(name)
