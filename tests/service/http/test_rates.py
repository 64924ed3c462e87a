"""Frames in a second: REST is refused with what is left and until when, a stream is slowed down."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from typing import Any

import pytest
from redis.asyncio import Redis

from service.engines.pool import Pool, served_tenant
from service.errors import EngineUnavailable
from tamvt_client import AsyncClient
from tests.service.http.test_tenants import start, two_tenants
from tests.service.stream.conftest import Serve, serve
from tests.service.stream.talk import async_talk
from tests.support import scene
from tests.support.gates import Gate
from tests.support.running import form, problem

__all__ = ["serve"]

pytestmark = pytest.mark.anyio


async def test_an_append_beyond_the_rate_is_refused_and_changes_nothing(serve: Serve) -> None:
    # 10 frames at once; so slow that nothing is gained while the test runs.
    async with two_tenants(serve, tenant_frames_per_s=1.0) as (ann, ben):
        for http in (ann, ben):
            http.headers["X-Tenant"] = secrets.token_hex(8)
        path, other = [(await start(http)).headers["location"] for http in (ann, ben)]
        frames = form([("frames", scene.jpeg(number)) for number in range(1, 10)])
        taken = await ann.post(f"{path}/clips?first_frame=1", files=frames)
        assert taken.status_code == 200
        assert taken.headers["ratelimit-policy"] == '"frames";q=10;w=10'
        assert taken.headers["ratelimit"].startswith('"frames";r=1;t=')
        more = form([("frames", scene.jpeg(number)) for number in range(10, 20)])
        refused = await ann.post(f"{path}/clips?first_frame=10", files=more)
        assert problem(refused) == (429, "rate-limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 10
        assert refused.headers["ratelimit"].startswith('"frames";r=')
        body = refused.json()
        assert body["limit"] == 10
        assert "TAMVT_TENANT_FRAMES_PER_S" in body["detail"]
        assert (await ann.get(path)).json()["next_frame"] == 10
        # What is committed already costs nothing, and another tenant has its own.
        again = await ann.post(f"{path}/clips?first_frame=1", files=frames)
        assert again.headers["idempotent-replay"] == "true"
        appended = await ben.post(f"{other}/clips?first_frame=1", files=frames)
        assert appended.status_code == 200


async def test_frames_of_an_append_without_an_answer_of_the_model_are_given_back(
    serve: Serve,
) -> None:
    gate = Gate()
    gate.opened.set()
    headers = {"X-Tenant": secrets.token_hex(8)}
    frames = form([("frames", scene.jpeg(number)) for number in range(1, 10)])
    # One frame at once; so slow that nothing is gained while the test runs.
    async with serve(gate, tenant_header="X-Tenant", tenant_frames_per_s=0.1) as service:
        service.http.headers.update(headers)
        path = f"/v1/sessions/{await service.start()}/clips?first_frame=1"
        gate.failure = EngineUnavailable("no masks")
        for _ in range(2):
            failed = await service.http.post(path, files=frames)
            assert problem(failed) == (503, "engine-unavailable")
        gate.failure = None
        assert (await service.http.post(path, files=frames)).status_code == 200
        more = form([("frames", scene.jpeg(10))])
        refused = await service.http.post(path.replace("=1", "=10"), files=more)
        assert problem(refused) == (429, "rate-limited")


async def test_one_tenants_queue_keeps_no_other_from_starting(serve: Serve) -> None:
    pool, held = Pool(workers=1, queue=4, deadline_s=60), threading.Event()

    async def work() -> None:
        served_tenant.set("greedy")
        await pool.run(lambda _: held.wait(60))

    gate = Gate(pool=pool)
    async with serve(gate, tenant_header="X-Tenant", max_queue_s=0.2) as service:
        tasks = [asyncio.create_task(work()) for _ in range(5)]
        await asyncio.sleep(0.3)
        found = {}
        for tenant in ("greedy", "modest"):
            parts = form([("frame", scene.png(0)), ("mask", scene.mask())])
            headers = {"X-Tenant": tenant}
            answer = await service.http.post("/v1/sessions", files=parts, headers=headers)
            found[tenant] = answer.status_code
        held.set()
        await asyncio.gather(*tasks)
    pool.close()
    assert found == {"greedy": 503, "modest": 201}


@pytest.mark.parametrize(("query", "frames"), [({}, 12), ({"durable": "interval:5"}, 14)])
async def test_a_stream_beyond_the_rate_waits(
    serve: Serve, redis_url: str, query: dict[str, Any], frames: int
) -> None:
    async with two_tenants(serve, tenant_frames_per_s=1.0) as (ann, _):
        tenant = secrets.token_hex(8)
        ann.headers["X-Tenant"] = tenant
        session = (await start(ann)).json()["session_id"]
        url = str(ann.base_url).rstrip("/")
        begun = time.monotonic()
        async with async_talk(url, session, headers={"X-Tenant": tenant}, **query) as stream:
            for first in range(1, frames + 1, 2):
                await stream.send_frames([first, first + 1])
                heard: list[str] = []
                while heard.count("masks") < 2:  # a commit may be told between
                    heard.append((await stream.hear())["type"])
        gained = time.monotonic() - begun
        async with Redis.from_url(redis_url) as redis:
            stored = await redis.hget(f"tamvt:{{tenant:{tenant}}}:rate:frames", "tokens")
        # Ten are there at once. All were counted, and the last two waited for those before.
        assert stored is not None
        assert float(stored) <= 10 - frames + gained + 0.1
        assert float(stored) > -2


async def test_the_client_sends_again_when_there_is_enough(serve: Serve) -> None:
    async with serve(tenant_frames_per_s=10.0) as service, AsyncClient(service.url) as client:
        session = (await client.start(scene.png(0), scene.mask())).session_id
        frames = [scene.jpeg(number) for number in range(1, 61)]
        await client.append(session, frames, first_frame=1)
        await client.append(session, frames[:50], first_frame=61)
        await client.append(session, frames[:20], first_frame=111)
        assert (await client.session(session)).next_frame == 131


async def test_new_sessions_wait_outside_while_the_queue_is_long_and_old_ones_go_on(
    serve: Serve,
) -> None:
    async with serve(max_queue_s=5.0) as service:
        session = await service.start()
        service.gate.queue_s = 8.2
        parts = form([("frame", scene.png(0)), ("mask", scene.mask())])
        for refused in (
            await service.http.post("/v1/sessions", files=parts),
            await service.http.post(f"/v1/sessions/{session}/fork"),
        ):
            assert problem(refused) == (503, "overloaded")
            assert refused.headers["retry-after"] == "9"
        await service.append(session, 1, 4)
        service.gate.queue_s = 4.0
        assert (await service.http.post(f"/v1/sessions/{session}/fork")).status_code == 201
