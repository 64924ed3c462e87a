"""The whole application under stress: too much at once, too slow, failing, two on one session.

The engine is the real one on the toy model, with a gate in front that a test closes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import EngineUnavailable
from service.settings import Settings
from tests.support import scene
from tests.support.bad_images import bomb
from tests.support.gates import Gate, served
from tests.support.running import PATIENCE_S, form, problem
from tests.support.tritons import until

pytestmark = pytest.mark.anyio


Serve = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def serve(redis_url: str, toy_folder: Path) -> Serve:
    """Serves the application in this process, over real HTTP: serve(gate, **settings)."""

    @asynccontextmanager
    async def serve(gate: Gate, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        given = {"redis_url": redis_url, "weights": toy_folder, "model": "toy", "engine_threads": 1}
        async with (
            served(gate, Settings(**{**given, **changes})) as serving,
            httpx.AsyncClient(base_url=serving.url, timeout=PATIENCE_S) as http,
        ):
            yield http

    return serve


async def start(http: httpx.AsyncClient) -> str:
    parts = ("frame", scene.png(0)), ("mask", scene.mask())
    answer = await http.post("/v1/sessions", files=form(parts))
    return str(answer.json()["session_id"])


async def append(
    http: httpx.AsyncClient, session: str, *numbers: int, first: int = 1
) -> httpx.Response:
    parts = [("frames", scene.jpeg(number)) for number in numbers]
    path = f"/v1/sessions/{session}/clips?first_frame={first}"
    return await http.post(path, files=form(parts))


async def masks(http: httpx.AsyncClient, session: str) -> Any:
    return (await http.get(f"/v1/sessions/{session}/masks")).json()["frames"]


async def undisturbed(serve: Serve, *numbers: int) -> Any:
    """The masks of these frames in one append, with nothing in the way."""
    gate = Gate()
    gate.opened.set()
    async with serve(gate) as http:
        session = await start(http)
        await append(http, session, *numbers)
        return await masks(http, session)


async def test_one_request_too_many_is_refused_at_once(serve: Serve) -> None:
    gate = Gate()
    async with serve(gate, max_requests=4) as http:
        sessions = [await start(http) for _ in range(3)]
        working = [asyncio.create_task(append(http, session, 1)) for session in sessions[:2]]
        await until(lambda: gate.clips == 2)
        refused = await append(http, sessions[2], 1)
        assert problem(refused) == (503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        gate.opened.set()
        assert [(await task).status_code for task in working] == [200, 200]
        assert (await append(http, sessions[2], 1)).status_code == 200


async def test_uploads_hold_no_more_bytes_than_allowed(serve: Serve) -> None:
    gate = Gate()
    image = scene.jpeg(1)
    async with serve(gate, max_request_bytes=350_000) as http:
        first, second = await start(http), await start(http)
        working = asyncio.create_task(
            http.post(f"/v1/sessions/{first}/clips?first_frame=1", content=image + bytes(250_000))
        )
        await gate.reached.wait()
        path = f"/v1/sessions/{second}/clips?first_frame=1"
        refused = await http.post(path, content=image + bytes(250_000))
        assert problem(refused) == (503, "overloaded")
        gate.opened.set()
        assert (await working).status_code == 200
        again = await http.post(path, content=image + bytes(250_000))
        assert again.status_code == 200
        alone_too_large = await http.post(path, content=bytes(360_000))
        assert problem(alone_too_large) == (413, "too-large")


async def test_a_request_beyond_its_deadline_changes_nothing(serve: Serve) -> None:
    gate = Gate()
    async with serve(gate, request_deadline_s=0.5) as hurried, serve(gate) as http:
        session = await start(http)
        late = await append(hurried, session, 1, 2)
        assert problem(late) == (503, "overloaded")
        assert len(await masks(http, session)) == 1
        gate.opened.set()
        assert (await append(http, session, 1, 2)).status_code == 200
        assert await masks(http, session) == await undisturbed(serve, 1, 2)


async def test_slow_bodies_take_no_places(serve: Serve) -> None:
    gate = Gate()
    gate.opened.set()
    leave = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield scene.jpeg(1)[:100]
        await leave.wait()
        yield scene.jpeg(1)[100:]

    async with serve(gate, max_requests=2) as http:
        slow, session = await start(http), await start(http)
        path = f"/v1/sessions/{slow}/clips?first_frame=1"
        waiting = [asyncio.create_task(http.post(path, content=slowly())) for _ in range(4)]
        await asyncio.sleep(0.3)
        assert (await append(http, session, 1)).status_code == 200
        leave.set()
        assert 200 in [(await task).status_code for task in waiting]


async def test_a_body_below_the_least_rate_is_refused(serve: Serve) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(25):
            yield bytes(100)
            await asyncio.sleep(0.1)

    async with serve(Gate()) as http, serve(Gate(), upload_bytes_per_s=1) as patient:
        session = await start(http)
        path = f"/v1/sessions/{session}/clips?first_frame=1"
        refused, read = await asyncio.gather(
            http.post(path, content=slowly()), patient.post(path, content=slowly())
        )
        assert problem(refused) == (408, "slow-upload")
        assert "64000 bytes a second" in refused.json()["detail"]
        assert problem(read) == (422, "bad-image")


async def test_pictures_are_counted_before_they_are_decoded(serve: Serve) -> None:
    async with serve(Gate(), max_request_bytes=200_000) as http:
        parts = [("frame", bomb(width=100, height=100)), ("mask", scene.mask())]
        answer = await http.post("/v1/sessions", files=form(parts))
        assert problem(answer) == (413, "too-large")
        assert "needs 231" in answer.json()["detail"]


async def test_every_call_on_a_session_takes_a_place(serve: Serve) -> None:
    gate = Gate()
    async with serve(gate, max_requests=2) as http:
        session, other = await start(http), await start(http)
        working = asyncio.create_task(append(http, session, 1))
        await until(lambda: gate.clips == 1)
        path = f"/v1/sessions/{other}"
        answers = [
            await http.get(path),
            await http.get(f"{path}/masks"),
            await http.get(f"{path}/masks/0.png"),
            await http.post(f"{path}/fork"),
            await http.post(f"{path}/tickets"),
            await http.delete(f"{path}/objects/1"),
            await http.delete(path),
        ]
        assert {problem(answer) for answer in answers} == {(503, "overloaded")}
        gate.opened.set()
        assert (await working).status_code == 200
        assert (await http.delete(path)).status_code == 204


async def test_an_upload_beyond_its_deadline_is_refused(serve: Serve) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield scene.jpeg(1)[:100]
        await asyncio.sleep(0.6)
        yield scene.jpeg(1)[100:]

    async with serve(Gate(), upload_deadline_s=0.3) as hurried, serve(Gate()) as http:
        session = await start(http)
        path = f"/v1/sessions/{session}/clips?first_frame=1"
        assert problem(await hurried.post(path, content=slowly())) == (408, "slow-upload")


async def test_an_engine_that_is_away_changes_nothing(serve: Serve) -> None:
    gate = Gate(failure=EngineUnavailable("the model is away", retry_after_s=2.5))
    async with serve(gate) as http:
        session = await start(http)
        away = await append(http, session, 1, 2)
        assert problem(away) == (503, "engine-unavailable")
        assert away.headers["retry-after"] == "3"
        gate.failure = None
        gate.opened.set()
        assert (await append(http, session, 1, 2)).status_code == 200
        assert await masks(http, session) == await undisturbed(serve, 1, 2)


async def test_an_unexpected_error_is_a_problem_without_details(serve: Serve) -> None:
    gate = Gate(failure=RuntimeError("the secret of the house"))
    async with serve(gate) as http:
        failed = await append(http, await start(http), 1)
        assert problem(failed) == (500, "internal-error")
        assert "secret" not in failed.text


async def test_of_two_services_on_one_session_one_wins(serve: Serve) -> None:
    slow, fast = Gate(), Gate()
    fast.opened.set()
    async with serve(slow) as here, serve(fast) as there:
        session = await start(here)
        losing = asyncio.create_task(append(here, session, 1, 2))
        await slow.reached.wait()
        won = await append(there, session, 3, 4)
        slow.opened.set()
        lost = await losing
        assert problem(lost) == (409, "conflict")
        assert lost.json()["expected"] == 3
        assert (await masks(here, session))[1:] == won.json()["frames"]


async def test_services_may_take_turns_on_one_session(serve: Serve) -> None:
    gate = Gate()
    gate.opened.set()
    async with serve(gate) as here, serve(gate) as there:
        session = await start(here)
        for first, http in ((1, here), (3, there), (5, here), (7, there)):
            answer = await append(http, session, first, first + 1, first=first)
            assert answer.status_code == 200
        assert await masks(here, session) == await undisturbed(serve, *range(1, 9))
