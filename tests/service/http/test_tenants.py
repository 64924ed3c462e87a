"""A session belongs to the tenant that started it: for all others it does not exist."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from httpx import AsyncClient, Response
from redis.asyncio import Redis

from service.store.codec import seal, unseal
from tests.service.stream.conftest import Serve, serve
from tests.service.stream.talk import async_talk
from tests.support import scene
from tests.support.running import form, problem

__all__ = ["serve"]

pytestmark = pytest.mark.anyio

ANN, BEN = {"X-Tenant": "ann"}, {"X-Tenant": "ben"}
BOX = [{"id": 1, "box": [4, 4, 20, 20]}]
CALLS: dict[str, Callable[[AsyncClient, str], Any]] = {
    "show": lambda http, path: http.get(path),
    "append": lambda http, path: http.post(
        f"{path}/clips?first_frame=1", files=form([("frames", scene.jpeg(1))])
    ),
    "masks": lambda http, path: http.get(f"{path}/masks"),
    "mask": lambda http, path: http.get(f"{path}/masks/0.png"),
    "correct": lambda http, path: http.put(f"{path}/objects", json=BOX),
    "remove": lambda http, path: http.delete(f"{path}/objects/1"),
    "fork": lambda http, path: http.post(f"{path}/fork"),
    "ticket": lambda http, path: http.post(f"{path}/tickets"),
    "delete": lambda http, path: http.delete(path),
}


@asynccontextmanager
async def two_tenants(
    serve: Serve, **settings: Any
) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
    """Ann's and Ben's client of one service."""
    async with (
        serve(tenant_header="X-Tenant", **settings) as service,
        AsyncClient(base_url=service.url, headers=ANN, timeout=60) as ann,
        AsyncClient(base_url=service.url, headers=BEN, timeout=60) as ben,
    ):
        yield ann, ben


async def start(http: AsyncClient) -> Response:
    return await http.post(
        "/v1/sessions", files=form([("frame", scene.png(0)), ("mask", scene.mask())])
    )


async def test_another_tenants_session_is_unknown_in_every_call(serve: Serve) -> None:
    async with two_tenants(serve) as (ann, ben):
        path = (await start(ann)).headers["location"]
        state = (await ann.get(path)).json()
        for name, call in CALLS.items():
            assert problem(await call(ben, path)) == (404, "unknown-session"), name
            unknown = await call(ben, "/v1/sessions/none")
            assert problem(unknown) == (404, "unknown-session"), name
        assert {**state, "expires_at": ""} == {**(await ann.get(path)).json(), "expires_at": ""}
        assert (await ann.delete(path)).status_code == 204


async def test_another_tenants_session_has_no_stream(serve: Serve) -> None:
    async with two_tenants(serve) as (ann, _):
        session = (await start(ann)).json()["session_id"]
        url = str(ann.base_url).rstrip("/")
        async with async_talk(url, session, headers=BEN, ready=False) as stream:
            assert await stream.hear_error() == (4404, "unknown-session")
        async with async_talk(url, session, headers=ANN):
            pass


async def test_a_ticket_is_its_tenants_wherever_it_is_used(serve: Serve) -> None:
    """A browser sends no header with its WebSocket."""
    async with two_tenants(serve) as (ann, _):
        session = (await start(ann)).json()["session_id"]
        ticket = (await ann.post(f"/v1/sessions/{session}/tickets")).json()["ticket"]
        url = str(ann.base_url).rstrip("/")
        async with async_talk(url, session, ticket=ticket) as stream:
            await stream.send_frames([1, 2])
            await stream.hear_masks(2)


async def test_a_stranger_cannot_use_up_or_free_a_quota(serve: Serve) -> None:
    async with two_tenants(serve, tenant_sessions=1) as (ann, ben):
        for http in (ann, ben):  # tenants of whom no other test counts sessions
            http.headers["X-Tenant"] = secrets.token_hex(8)
        path = (await start(ann)).headers["location"]
        assert (await ben.delete(path)).status_code == 404
        assert problem(await start(ann)) == (429, "too-many")
        assert (await start(ben)).status_code == 201
        assert (await ann.delete(path)).status_code == 204
        assert (await start(ann)).status_code == 201


async def test_objects_of_all_sessions_have_a_quota(serve: Serve) -> None:
    def box(object_id: int) -> list[dict[str, object]]:
        return [{"id": object_id, "box": [4, 4, 20, 20]}]

    async def start_two() -> Response:
        parts = [("frame", scene.png(0, objects=2)), ("mask", scene.mask(objects=2))]
        return await ann.post("/v1/sessions", files=form(parts))

    async with two_tenants(serve, tenant_objects=3) as (ann, _):
        ann.headers["X-Tenant"] = secrets.token_hex(8)
        path = (await start_two()).headers["location"]
        refused = await start_two()
        assert problem(refused) == (429, "too-many")
        assert refused.json()["limit"] == 3
        assert "TAMVT_TENANT_OBJECTS" in refused.json()["detail"]
        assert (await ann.put(f"{path}/objects", json=box(3))).status_code == 200
        assert problem(await ann.put(f"{path}/objects", json=box(4))) == (429, "too-many")
        assert (await ann.put(f"{path}/objects", json=box(1))).status_code == 200, "a correction"
        assert problem(await ann.post(f"{path}/fork")) == (429, "too-many")
        assert (await ann.delete(path)).status_code == 204
        assert (await start_two()).status_code == 201


async def test_a_session_of_before_tenants_is_taken_by_whom_it_is_used(
    serve: Serve, redis_url: str
) -> None:
    async with two_tenants(serve) as (ann, ben), Redis.from_url(redis_url) as redis:
        path = (await start(ann)).headers["location"]
        session_id = path.rpartition("/")[2]
        key = f"tamvt:{{{session_id}}}:session"
        stored = await redis.hget(key, "state")
        assert isinstance(stored, bytes)
        members = json.loads(unseal(session_id, "session", stored))
        del members["tenant"]
        sealed = seal(session_id, "session", json.dumps({**members, "format": 2}).encode())
        await redis.hset(key, "state", sealed)
        await redis.hdel(key, "tenant")
        assert (await ann.get(path)).status_code == (await ben.get(path)).status_code == 200
        appended = await CALLS["append"](ben, path)
        assert appended.status_code == 200, appended.text
        assert problem(await ann.get(path)) == (404, "unknown-session")
        assert (await ben.get(path)).json()["next_frame"] == 2


async def test_without_names_everybody_is_one_tenant(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        answer = await service.http.get(f"/v1/sessions/{session}", headers=BEN)
        assert answer.status_code == 200
