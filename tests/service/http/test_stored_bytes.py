"""Stored bytes have limits: what is beyond one is refused by its name, and nothing is lost."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis

from model.core.palette import write_label_map
from service.local.private_redis import private_redis
from tests.service.stream.conftest import Serve, Served, serve
from tests.service.stream.talk import async_talk
from tests.support import scene
from tests.support.running import form, problem

__all__ = ["serve"]

pytestmark = pytest.mark.anyio


def dots() -> bytes:
    """A mask that is small as a picture, and large as runs."""
    labels = np.zeros((scene.HEIGHT, scene.WIDTH), np.uint8)
    labels[::2, ::2] = 1
    return write_label_map(labels)


async def start(service: Served, mask: bytes) -> httpx.Response:
    parts = form([("frame", scene.png(0)), ("mask", mask)])
    return await service.http.post("/v1/sessions", files=parts)


async def append(service: Served, session: str, first: int) -> httpx.Response:
    parts = form([("frames", scene.jpeg(number)) for number in (first, first + 1)])
    path = f"/v1/sessions/{session}/clips?first_frame={first}"
    return await service.http.post(path, files=parts)


async def state(service: Served, session: str) -> dict[str, Any]:
    answer = (await service.http.get(f"/v1/sessions/{session}")).json()
    answer.pop("expires_at")
    masks = (await service.http.get(f"/v1/sessions/{session}/masks")).json()
    return {**answer, "masks": masks}


async def test_a_mask_of_dots_is_too_large_to_be_stored(serve: Serve) -> None:
    async with serve(frame_mask_bytes=4000) as service:
        refused = await start(service, dots())
        assert problem(refused) == (413, "masks-too-large")
        assert refused.json()["limit"] == 4000
        session = await service.start()
        before = await state(service, session)
        path = f"/v1/sessions/{session}/objects"
        corrected = await service.http.put(path, files=form([("mask", dots())]))
        assert problem(corrected) == (413, "masks-too-large")
        assert await state(service, session) == before
        assert (await append(service, session, 1)).status_code == 200


async def test_a_session_that_is_full_keeps_what_it_has(serve: Serve) -> None:
    async with serve(session_bytes=15_000, rollback_clips=0, rollback_snapshots=1) as service:
        session, first = await service.start(memory_size=3), 1
        while (answer := await append(service, session, first)).status_code == 200:
            first += 2
            assert first < 200
        assert problem(answer) == (413, "session-too-large")
        assert answer.json()["limit"] == 15_000
        stored = await state(service, session)
        assert stored["next_frame"] == first
        assert len(stored["masks"]["frames"]) == first
        async with async_talk(service.url, session) as stream:
            await stream.send_frames([first, first + 1])
            assert await stream.hear_error() == (4413, "session-too-large")
        assert await state(service, session) == stored
        assert (await service.http.delete(f"/v1/sessions/{session}")).status_code == 204


async def test_a_tenant_that_is_full_is_told_and_others_go_on(serve: Serve) -> None:
    async with serve(tenant_header="X-Tenant", tenant_bytes=65_536) as service:
        service.http.headers["X-Tenant"] = f"full-{id(service)}"
        session = await service.start()
        refused = await start(service, scene.mask())
        # The first session's step is all there is: what is left of it serves that session.
        assert problem(refused) == (429, "too-many")
        assert refused.json()["limit"] == 65_536
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        fork = await service.http.post(f"/v1/sessions/{session}/fork")
        assert problem(fork) == (429, "too-many")
        assert (await append(service, session, 1)).status_code == 200
        service.http.headers["X-Tenant"] = f"other-{id(service)}"
        await service.start()


async def test_a_redis_that_is_full_says_so_and_loses_nothing(serve: Serve, tmp_path: Any) -> None:
    async with (
        private_redis(tmp_path) as url,
        Redis.from_url(url) as redis,
        serve(redis_url=url) as service,
    ):
        session = await service.start()
        assert (await append(service, session, 1)).status_code == 200
        before = await state(service, session)
        await redis.config_set("maxmemory", "1")
        for answer in (
            await start(service, scene.mask()),
            await append(service, session, 3),
            await service.http.post(f"/v1/sessions/{session}/fork"),
        ):
            assert problem(answer) == (503, "store-full")
            assert int(answer.headers["retry-after"]) >= 1
        assert await state(service, session) == before
        await redis.config_set("maxmemory", "0")
        assert (await append(service, session, 3)).status_code == 200
        assert (await state(service, session))["masks"]["frames"][:3] == before["masks"]["frames"]
