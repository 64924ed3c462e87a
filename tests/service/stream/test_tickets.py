"""Who may open a stream: tickets, origins, and CORS for pages elsewhere."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.service.stream.conftest import Serve, Served
from tests.service.stream.talk import async_talk
from tests.support.running import problem

pytestmark = pytest.mark.anyio
PAGE = "https://page.example"


async def ticket(service: Served, session: str) -> str:
    answer = await service.http.post(f"/v1/sessions/{session}/tickets")
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json()["ticket"])


async def refusal(service: Served, session: str, given: str) -> tuple[int, str]:
    async with async_talk(service.url, session, ready=False, ticket=given) as stream:
        return await stream.hear_error()


async def test_a_ticket_opens_one_stream(serve: Serve) -> None:
    async with serve(tickets_required=True) as service:
        session = await service.start()
        given = await ticket(service, session)
        async with async_talk(service.url, session, ticket=given) as stream:
            await stream.send_frames([1, 2])
            await stream.hear_masks(2)
        assert await refusal(service, session, given) == (4401, "bad-ticket")


async def test_a_ticket_of_another_session_is_refused_and_stays_good(serve: Serve) -> None:
    async with serve() as service:
        mine, other = await service.start(), await service.start()
        given = await ticket(service, mine)
        assert await refusal(service, other, given) == (4401, "bad-ticket")
        async with async_talk(service.url, mine, ticket=given):
            pass


async def test_a_ticket_expires(serve: Serve) -> None:
    async with serve(ticket_ttl_s=0.2) as service:
        session = await service.start()
        given = await ticket(service, session)
        await asyncio.sleep(0.3)
        assert await refusal(service, session, given) == (4401, "bad-ticket")


async def test_a_wrong_ticket_is_refused_where_none_is_needed(serve: Serve) -> None:
    async with serve() as service:
        assert await refusal(service, await service.start(), "guess") == (4401, "bad-ticket")


async def test_no_ticket_is_refused_where_one_is_needed(serve: Serve) -> None:
    async with serve(tickets_required=True) as service:
        session = await service.start()
        async with async_talk(service.url, session, ready=False) as stream:
            assert await stream.hear_error() == (4401, "bad-ticket")


async def test_a_ticket_of_one_gateway_is_good_at_another(serve: Serve) -> None:
    async with serve() as here, serve(tickets_required=True) as there:
        session = await here.start()
        async with async_talk(there.url, session, ticket=await ticket(here, session)):
            pass


async def test_an_unknown_session_has_no_tickets(serve: Serve) -> None:
    async with serve() as service:
        answer = await service.http.post("/v1/sessions/unknown/tickets")
        assert problem(answer) == (404, "unknown-session")


async def test_a_page_of_another_origin_is_refused(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        with pytest.raises(InvalidStatus) as caught:
            async with async_talk(service.url, session, headers={"Origin": PAGE}):
                pass
        assert caught.value.response.status_code == 403
        assert b"foreign-origin" in (caught.value.response.body or b"")


@pytest.mark.parametrize("allowed", [PAGE, f"https://other.example, {PAGE}/", "*"])
async def test_an_allowed_origin_is_served(serve: Serve, allowed: str) -> None:
    async with serve(allowed_origins=allowed) as service:
        session = await service.start()
        async with async_talk(service.url, session, headers={"Origin": PAGE}):
            pass


async def test_the_services_own_page_is_served(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, headers={"Origin": service.url}):
            pass


async def preflight(service: Served) -> httpx.Response:
    headers = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    return await service.http.options("/v1/sessions", headers=headers)


async def test_cors_names_allowed_origins_only(serve: Serve) -> None:
    async with serve(allowed_origins=PAGE) as open_service, serve() as closed_service:
        allowed, refused = await preflight(open_service), await preflight(closed_service)
        shown = await open_service.http.get("/v1/models", headers={"Origin": PAGE})
    assert allowed.headers["access-control-allow-origin"] == PAGE
    assert "access-control-allow-origin" not in refused.headers
    assert shown.headers["access-control-allow-origin"] == PAGE
