"""The list of a tenant's sessions."""

from __future__ import annotations

import secrets

import pytest
from redis.asyncio import Redis

from tamvt_client import AsyncClient
from tests.service.http.test_tenants import start, two_tenants
from tests.service.stream.conftest import Serve, serve
from tests.support.running import problem

__all__ = ["serve"]

pytestmark = pytest.mark.anyio


async def test_a_tenant_sees_its_own_sessions_page_by_page(serve: Serve) -> None:
    async with two_tenants(serve, tenant_sessions=0, tenant_bytes=0) as (ann, ben):
        for http in (ann, ben):  # tenants of whom no other test counts sessions
            http.headers["X-Tenant"] = secrets.token_hex(8)
        assert (await ann.get("/v1/sessions")).json() == {"sessions": [], "next": None}
        started = [(await start(ann)).json() for _ in range(3)]
        await start(ben)
        mine = sorted(each["session_id"] for each in started)
        whole = (await ann.get("/v1/sessions")).json()
        assert [each["session_id"] for each in whole["sessions"]] == mine
        shown = (await ann.get(f"/v1/sessions/{mine[0]}")).json()
        assert {**whole["sessions"][0], "expires_at": ""} == {**shown, "expires_at": ""}
        first = await ann.get("/v1/sessions?limit=2")
        assert first.headers["link"] == f'<{first.json()["next"]}>; rel="next"'
        second = (await ann.get(first.json()["next"])).json()
        found = [*first.json()["sessions"], *second["sessions"]]
        assert [each["session_id"] for each in found] == mine
        assert second["next"] is None
        assert len((await ben.get("/v1/sessions")).json()["sessions"]) == 1
        for wrong in ("limit=0", "limit=101", "after=}", "from=1"):
            assert problem(await ann.get(f"/v1/sessions?{wrong}")) == (422, "bad-option")


async def test_an_expired_session_is_not_listed_and_the_quota_finds_it(
    serve: Serve, redis_url: str
) -> None:
    async with two_tenants(serve) as (ann, _), Redis.from_url(redis_url) as redis:
        tenant = ann.headers["X-Tenant"] = secrets.token_hex(8)
        kept, expired = [(await start(ann)).json()["session_id"] for _ in range(2)]
        await redis.delete(f"tamvt:{{{expired}}}:session")
        counted = f"tamvt:{{tenant:{tenant}}}:sessions"
        assert await redis.zcard(counted) == 2
        listed = (await ann.get("/v1/sessions")).json()["sessions"]
        assert [each["session_id"] for each in listed] == [kept]
        assert await redis.zcard(counted) == 2, "it might be one that is being started"


async def test_to_be_listed_keeps_no_session_alive(serve: Serve, redis_url: str) -> None:
    async with two_tenants(serve) as (ann, _), Redis.from_url(redis_url) as redis:
        ann.headers["X-Tenant"] = secrets.token_hex(8)
        session = (await start(ann)).json()["session_id"]
        key = f"tamvt:{{{session}}}:session"
        await redis.pexpire(key, 1_000_000)
        assert len((await ann.get("/v1/sessions")).json()["sessions"]) == 1
        assert await redis.pttl(key) <= 1_000_000
        await ann.get(f"/v1/sessions/{session}")
        assert await redis.pttl(key) > 1_000_000


async def test_the_client_lists_every_page(serve: Serve) -> None:
    async with serve() as service, AsyncClient(service.url) as client:
        mine = {await service.start() for _ in range(3)}
        listed = [session.session_id async for session in client.sessions()]
        assert mine <= set(listed)
        assert listed == sorted(listed)
