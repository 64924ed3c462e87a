"""Who is let in: keys and tokens over REST and streams, and what those get who are not."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from service.access.key_stores import KeyFile
from service.access.keys import Scope, make_key
from tamvt_client import AsyncClient, InvalidCredentials
from tests.service.stream.conftest import Serve, Served, serve
from tests.service.stream.talk import async_talk
from tests.support import scene
from tests.support.issuer import AUDIENCE, SmallIssuer, small_issuer
from tests.support.running import form, problem

__all__ = ["serve"]

pytestmark = pytest.mark.anyio
PUBLIC = {"/healthz", "/readyz", "/openapi.json", "/", "/web/tamvt.js"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[SmallIssuer]:
    with small_issuer() as issuer:
        yield issuer


class Keys:
    """A file of keys."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def add(self, tenant: str, *scopes: Scope, hours: float = 1) -> dict[str, str]:
        """The header of a new key."""
        until = datetime.now(UTC) + timedelta(hours=hours)
        text, kept = make_key(tenant, scopes or ("read", "write"), expires_at=until)
        await KeyFile(self.path).put(kept)
        return bearer(text)


def bearer(credential: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {credential}"}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path / "keys.json")


@asynccontextmanager
async def guarded(serve: Serve, keys: Keys, **settings: Any) -> AsyncIterator[Served]:
    async with serve(keys=str(keys.path), **settings) as service:
        yield service


async def start(service: Served, headers: dict[str, str]) -> httpx.Response:
    parts = form([("frame", scene.png(0)), ("mask", scene.mask())])
    return await service.http.post("/v1/sessions", files=parts, headers=headers)


async def test_every_route_asks_for_a_key(serve: Serve, keys: Keys) -> None:
    good = await keys.add("ann")
    async with guarded(serve, keys) as service:
        described = (await service.http.get("/openapi.json")).json()["paths"]
        calls = [(method, path) for path, item in described.items() for method in item]
        assert len(calls) > 10
        for method, path in calls:
            url = re.sub(r"{\w+}", "1", path)
            for headers in (
                {},
                bearer("tamvt_0123456789ab_guess"),
                {"Authorization": "Basic YTpi"},
            ):
                answer = await service.http.request(method, url, headers=headers)
                if path in PUBLIC:
                    assert answer.status_code == 200, path
                    continue
                assert problem(answer) == (401, "unauthenticated"), (method, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
        for path in PUBLIC:
            assert (await service.http.get(path)).status_code == 200, path
        assert (await service.http.get("/v1/models", headers=good)).status_code == 200


async def test_all_that_is_wrong_gets_the_same_answer(
    serve: Serve, keys: Keys, issuer: SmallIssuer
) -> None:
    good, other, expired = (
        await keys.add("ann"),
        await keys.add("ben"),
        await keys.add("ann", hours=-1),
    )
    secret = other["Authorization"].split("_", 2)[2]
    prefix = good["Authorization"].rsplit("_", 1)[0][: len("Bearer tamvt_0123456789ab")]
    wrong = [
        expired,
        {"Authorization": f"{prefix}_{secret}"},
        {"Authorization": good["Authorization"][:-1]},
        bearer(issuer.sign(aud="another")),
        bearer(issuer.sign(iss="https://evil.example")),
        bearer(issuer.sign(exp=1)),
        bearer("x.y.z"),
        {"Authorization": "Bearer"},
    ]
    async with guarded(serve, keys, oidc_issuer=issuer.url, oidc_audience=AUDIENCE) as service:
        answers = [await service.http.get("/v1/models", headers=each) for each in wrong]
        assert {problem(each) for each in answers} == {(401, "unauthenticated")}
        assert len({each.text for each in answers}) == 1
        for each in (good, other, bearer(issuer.sign())):
            assert (await service.http.get("/v1/models", headers=each)).status_code == 200


async def test_a_session_is_of_the_tenant_of_the_credential(
    serve: Serve, keys: Keys, issuer: SmallIssuer
) -> None:
    ann, ben = await keys.add("ann"), await keys.add("ben")
    async with guarded(serve, keys, oidc_issuer=issuer.url, oidc_audience=AUDIENCE) as service:
        path = (await start(service, ann)).headers["location"]
        token = bearer(issuer.sign())  # of ann too
        assert (await service.http.get(path, headers=token)).status_code == 200
        for headers in (ben, {**ben, "X-Tenant": "ann"}, bearer(issuer.sign(tenant="ben"))):
            answer = await service.http.get(path, headers=headers)
            assert problem(answer) == (404, "unknown-session")
        # What is revoked while the service runs opens nothing more.
        stored = json.loads(keys.path.read_text())
        stored["keys"][0]["revoked_at"] = stored["keys"][0]["created_at"]
        keys.path.write_text(json.dumps(stored))
        assert problem(await service.http.get(path, headers=ann)) == (401, "unauthenticated")


async def test_a_scope_allows_its_own_calls_only(serve: Serve, keys: Keys) -> None:
    reader = await keys.add("ann", "read")
    writer, admin = await keys.add("ann", "write"), await keys.add("ann", "admin")
    async with guarded(serve, keys) as service:
        session = (await start(service, writer)).json()["session_id"]
        path = f"/v1/sessions/{session}"
        assert (await service.http.get(path, headers=reader)).status_code == 200
        assert (await service.http.get("/metrics", headers=admin)).status_code == 200
        denied = [
            await start(service, reader),
            await service.http.delete(path, headers=reader),
            await service.http.post(f"{path}/tickets", headers=reader),
            await service.http.get(path, headers=writer),
            await service.http.get("/metrics", headers=reader),
            await service.http.get(path, headers=admin),
        ]
        assert {problem(each) for each in denied} == {(403, "missing-scope")}
        with pytest.raises(InvalidStatus) as caught:
            async with async_talk(service.url, session, headers=reader, ready=False):
                pass
        assert caught.value.response.status_code == 403


async def test_a_stream_needs_a_key_or_a_ticket(serve: Serve, keys: Keys) -> None:
    ann, ben = await keys.add("ann"), await keys.add("ben")
    async with guarded(serve, keys) as service:
        session = (await start(service, ann)).json()["session_id"]
        for headers in ({}, bearer("tamvt_0123456789ab_guess")):
            with pytest.raises(InvalidStatus) as caught:
                async with async_talk(service.url, session, headers=headers, ready=False):
                    pass
            assert caught.value.response.status_code == 401
        async with async_talk(service.url, session, headers=ben, ready=False) as stream:
            assert await stream.hear_error() == (4404, "unknown-session")
        async with async_talk(service.url, session, headers=ann):
            pass
        tickets = f"/v1/sessions/{session}/tickets"
        assert problem(await service.http.post(tickets, headers=ben)) == (404, "unknown-session")
        first, second = [
            (await service.http.post(tickets, headers=ann)).json()["ticket"] for _ in range(2)
        ]
        async with async_talk(service.url, session, ticket=first) as stream:
            await stream.send_frames([1, 2])
            await stream.hear_masks(2)
        # Another tenant's key does not become ann's by a ticket of hers.
        async with async_talk(
            service.url, session, ticket=second, headers=ben, ready=False
        ) as stream:
            assert await stream.hear_error() == (4401, "bad-ticket")


async def test_a_key_in_an_address_is_refused_even_where_it_is_right(
    serve: Serve, keys: Keys
) -> None:
    good = await keys.add("ann")
    key = good["Authorization"].removeprefix("Bearer ")
    async with guarded(serve, keys) as service:
        for query in (f"key={key}", f"{key}", f"access_token={key}"):
            answer = await service.http.get(f"/v1/models?{query}", headers=good)
            assert problem(answer) == (422, "bad-option")
            assert "header Authorization" in answer.text
            assert key not in answer.text


async def test_the_python_client_shows_its_key(serve: Serve, keys: Keys) -> None:
    good = await keys.add("ann")
    key = good["Authorization"].removeprefix("Bearer ")
    frames = [scene.jpeg(number) for number in (1, 2)]

    async def two() -> AsyncIterator[bytes]:
        for each in frames:
            yield each

    async with guarded(serve, keys) as service:
        async with AsyncClient(service.url) as stranger:
            with pytest.raises(InvalidCredentials):
                await stranger.models()
        async with AsyncClient(service.url, key=key) as client:
            session = await client.start(scene.png(0), scene.mask())
            for with_tickets in (False, True):
                masks = client.stream(
                    session.session_id, two(), first_frame=1, with_tickets=with_tickets
                )
                assert [item.frame async for item in masks] == [1, 2]


async def test_a_tenant_is_named_by_trusted_proxies_alone(serve: Serve) -> None:
    header = {"X-Tenant": "ann"}
    async with serve(tenant_header="X-Tenant", trusted_proxies="10.0.0.0/8") as service:
        # A peer is who connects: what it says of others is not believed.
        for headers in (header, {}, {**header, "X-Forwarded-For": "10.0.0.1"}):
            answer = await service.http.get("/v1/models", headers=headers)
            assert problem(answer) == (401, "unauthenticated")
        assert (await service.http.get("/readyz")).status_code == 200
    async with serve(tenant_header="X-Tenant", trusted_proxies="10.0.0.0/8, 127.0.0.1") as service:
        for headers in (header, {**header, "X-Forwarded-For": "203.0.113.7"}):
            assert (await service.http.get("/v1/models", headers=headers)).status_code == 200
