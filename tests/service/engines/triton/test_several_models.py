"""Engines of several models on one Triton: their banks share one budget, and none is another's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from service.engines.base import EngineLimits
from service.engines.triton.engine import SharedMemory, triton_engines
from service.engines.triton.region import Region
from service.local.triton import LocalTriton
from tests.support.tritons import regions, until
from tests.support.videos import Video

pytestmark = pytest.mark.anyio


async def test_the_banks_of_all_models_share_one_budget(triton: LocalTriton, prefix: str) -> None:
    """Of three regions two have room: the models take each other's."""
    async with triton_engines(
        triton.url, ["toy", "other"], memory=SharedMemory(prefix=prefix)
    ) as engines:
        first = Video(session_id="first")
        await first.append(engines["toy"], 1, 2)
        (region,) = regions(prefix)
        nbytes = region.stat().st_size
    async with triton_engines(
        triton.url,
        ["toy", "other"],
        limits=EngineLimits(bank_bytes=2 * nbytes),
        memory=SharedMemory(prefix=prefix),
    ) as engines:
        names = ("toy", "other", "toy")
        videos = [Video(session_id=str(number)) for number in range(3)]
        for begin in (1, 3):
            for name, video in zip(names, videos, strict=True):
                answer = await video.append(engines[name], begin, begin + 1)
                assert answer.weights_sha256 == engines[name].spec.weights_sha256
                assert len(regions(prefix)) <= 2
        assert [video.rebuilds for video in videos] == [2, 2, 2]


async def test_a_gateway_that_starts_leaves_the_regions_of_all_its_models(
    triton: LocalTriton, prefix: str
) -> None:
    shared = SharedMemory(prefix=prefix)
    async with triton_engines(triton.url, ["toy", "other"], memory=shared) as engines:
        videos = {name: Video(session_id=name) for name in engines}
        for name, video in videos.items():
            await video.append(engines[name], 1, 2)
        useless = Region.create(Path("/dev/shm") / f"{prefix}-useless", 8192)
        useless.close()
        async with triton_engines(triton.url, ["toy", "other"], memory=shared):
            await until(lambda: not any(path.name == useless.name for path in regions(prefix)))
            await asyncio.sleep(0.2)  # for what one model sweeps of the other's
        for name, video in videos.items():
            await video.append(engines[name], 3, 4)
        assert [video.rebuilds for video in videos.values()] == [1, 1]
