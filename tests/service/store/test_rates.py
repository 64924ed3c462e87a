"""What a tenant may use in a second, counted in Redis for all gateways."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from service.errors import RateLimited
from service.store.rates import RateLimits, TenantRates
from service.store.redis_client import open_redis

pytestmark = pytest.mark.anyio


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, deadline_s=30.0, max_connections=8) as client:
        assert isinstance(client, Redis)
        yield client


def rates(redis: Redis, *, frames_per_s: float = 0.0, engine_share: float = 0.0) -> TenantRates:
    limits = RateLimits(frames_per_s=frames_per_s, engine_share=engine_share)
    return TenantRates(redis, limits=limits, deadline_s=30.0)


@pytest.fixture
def tenant() -> str:
    return secrets.token_hex(8)


async def test_two_gateways_together_give_no_more_than_one(redis: Redis, tenant: str) -> None:
    # So slow that nothing is gained while the test runs.
    here, there = rates(redis, frames_per_s=0.01), rates(redis, frames_per_s=0.01)
    bucket = rates(redis, frames_per_s=2.0)
    took = [gateway.take_frames(tenant, 1) for _ in range(10) for gateway in (here, there)]
    found = await asyncio.gather(*took, return_exceptions=True)
    assert sum(not isinstance(each, Exception) for each in found) == 1
    assert {type(each) for each in found if isinstance(each, Exception)} == {RateLimited}
    await bucket.take_frames(secrets.token_hex(8), 20)  # another tenant has its own


async def test_what_is_left_is_told_and_gained_again(redis: Redis, tenant: str) -> None:
    bucket = rates(redis, frames_per_s=1.0)
    allowance = await bucket.take_frames(tenant, 7)
    assert allowance is not None
    assert (allowance.most, allowance.left) == (10, 3)
    with pytest.raises(RateLimited, match="TAMVT_TENANT_FRAMES_PER_S") as caught:
        await bucket.take_frames(tenant, 9)
    assert 3.0 < caught.value.retry_after_s <= 6.0
    assert caught.value.headers["RateLimit-Policy"] == '"frames";q=10;w=10'
    name = f"tamvt:{{tenant:{tenant}}}:rate:frames"
    await redis.hincrby(name, "at", -60_000)  # as if a minute had passed
    allowance = await bucket.take_frames(tenant, 9)
    assert allowance is not None
    assert allowance.left == 1, "no more is saved up than the bucket holds"
    assert 0 < await redis.pttl(name) < 120_000


async def test_more_than_a_bucket_holds_is_given_when_it_is_full_and_paid_back(
    redis: Redis, tenant: str
) -> None:
    bucket = rates(redis, frames_per_s=1.0)
    await bucket.take_frames(tenant, 64)
    with pytest.raises(RateLimited) as caught:
        await bucket.take_frames(tenant, 1)
    assert 50 < caught.value.retry_after_s <= 55.1
    with pytest.raises(RateLimited):
        await bucket.take_frames(tenant, 0)


async def test_frames_that_are_given_back_fill_the_bucket_and_no_more(
    redis: Redis, tenant: str
) -> None:
    bucket = rates(redis, frames_per_s=1.0)
    await bucket.take_frames(tenant, 64)
    await bucket.give_frames(tenant, 64)
    allowance = await bucket.take_frames(tenant, 1)
    assert allowance is not None
    assert allowance.left == 9
    await bucket.give_frames(tenant, 64)
    name = f"tamvt:{{tenant:{tenant}}}:rate:frames"
    assert float(await redis.hget(name, "tokens") or 0) == 10
    assert 0 < await redis.pttl(name) <= 60_000
    await rates(redis).give_frames(tenant, 1)  # without a limit


async def test_seconds_of_the_engine_are_counted_when_they_are_spent(
    redis: Redis, tenant: str
) -> None:
    bucket = rates(redis, engine_share=0.1)
    assert await bucket.count_frames(tenant, 2) == 0.0
    await bucket.spend_engine(tenant, 1.5)
    wait_s = await bucket.count_frames(tenant, 2)
    assert 4 < wait_s <= 5.1
    with pytest.raises(RateLimited, match="TAMVT_TENANT_ENGINE_SHARE") as caught:
        await bucket.take_frames(tenant, 1)
    assert caught.value.headers["RateLimit"].startswith('"engine";r=0;t=')


async def test_a_clock_that_steps_back_takes_nothing_away(redis: Redis, tenant: str) -> None:
    bucket = rates(redis, frames_per_s=1.0)
    await bucket.take_frames(tenant, 1)
    await redis.hincrby(f"tamvt:{{tenant:{tenant}}}:rate:frames", "at", 3_600_000)
    allowance = await bucket.take_frames(tenant, 1)
    assert allowance is not None
    assert allowance.left == 8


async def test_without_a_limit_nothing_is_asked(redis: Redis, tenant: str) -> None:
    assert await rates(redis).take_frames(tenant, 1000) is None
    await rates(redis).spend_engine(tenant, 100.0)
    assert not await redis.keys(f"*{tenant}*")
