"""Readiness says whether work gets done, not whether the process answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis.asyncio import Redis

from service.local.private_redis import private_redis
from service.settings import Settings
from tests.support.gates import Gate, Serving, served
from tests.support.running import PATIENCE_S, problem

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def serving(
    url: str, toy_folder: Path, **changes: Any
) -> AsyncIterator[tuple[Serving, httpx.AsyncClient]]:
    given = {"redis_url": url, "weights": toy_folder, "model": "toy", "engine_threads": 1}
    async with (
        served(Gate(), Settings(**{**given, **changes})) as service,
        httpx.AsyncClient(base_url=service.url, timeout=PATIENCE_S) as http,
    ):
        yield service, http


async def until_ready(http: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask until the answer has this status, and return it."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await http.get("/readyz")).status_code != status:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return answer


async def test_a_worker_that_is_stuck_is_told(redis_url: str, toy_folder: Path) -> None:
    async with serving(redis_url, toy_folder, request_deadline_s=0.5) as (service, http):
        stop = threading.Event()
        working = service.workers.start(stop.wait, PATIENCE_S)
        assert (await http.get("/readyz")).status_code == 200
        refused = await until_ready(http, 503)
        assert problem(refused) == (503, "overloaded")
        assert (await http.get("/healthz")).status_code == 200
        stop.set()
        await working
        await until_ready(http, 200)


async def test_a_redis_that_is_full_is_told(tmp_path: Path, toy_folder: Path) -> None:
    async with (
        private_redis(tmp_path) as url,
        Redis.from_url(url) as redis,
        serving(url, toy_folder) as (_, http),
    ):
        assert (await http.get("/readyz")).status_code == 200
        await redis.config_set("maxmemory", "1")
        assert problem(await http.get("/readyz")) == (503, "store-full")
        await redis.config_set("maxmemory", "0")
        assert (await http.get("/readyz")).status_code == 200
        await asyncio.sleep(1.1)
        assert await redis.keys("*ready*") == []


async def test_a_redis_without_its_replicas_is_told(tmp_path: Path, toy_folder: Path) -> None:
    async with (
        private_redis(tmp_path) as url,
        Redis.from_url(url) as redis,
        serving(url, toy_folder) as (_, http),
    ):
        await redis.config_set("min-replicas-to-write", "1")
        assert problem(await http.get("/readyz")) == (503, "store-unavailable")


async def test_a_redis_that_waits_is_told_within_a_second(tmp_path: Path, toy_folder: Path) -> None:
    async with (
        private_redis(tmp_path) as url,
        Redis.from_url(url) as redis,
        serving(url, toy_folder, redis_deadline_s=30.0) as (_, http),
    ):
        await redis.client_pause(3000, all=False)
        begin = asyncio.get_running_loop().time()
        assert problem(await http.get("/readyz")) == (503, "store-unavailable")
        assert asyncio.get_running_loop().time() - begin < 2.5
        await redis.client_unpause()
