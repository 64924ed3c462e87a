"""The application in the test's own event loop, so that a test can hold clips back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.support import scene
from tests.support.gates import Gate, Serving, served
from tests.support.running import PATIENCE_S, form


class Served:
    """A service with a gate before its engine."""

    def __init__(self, serving: Serving, gate: Gate, http: httpx.AsyncClient) -> None:
        self.url, self.streams, self.admission, self.workers = serving
        self.gate = gate
        self.http = http

    async def start(self, **options: Any) -> str:
        """The id of a new session on the made-up video."""
        parts = (
            ("frame", scene.png(0)),
            ("mask", scene.mask()),
            ("options", httpx.Response(200, json=options).content),
        )
        answer = await self.http.post("/v1/sessions", files=form(parts))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["session_id"])

    async def append(self, session: str, first: int, last: int) -> None:
        """Appends frames of the scene over REST."""
        for begin in range(first, last + 1, 64):
            numbers = range(begin, min(begin + 64, last + 1))
            parts = [("frames", scene.jpeg(number)) for number in numbers]
            path = f"/v1/sessions/{session}/clips?first_frame={begin}"
            answer = await self.http.post(path, files=form(parts))
            assert answer.status_code == 200, answer.text

    async def masks(self, session: str) -> dict[int, Any]:
        """The stored objects by frame, without the reference."""
        answer = await self.http.get(f"/v1/sessions/{session}/masks")
        _, *frames = answer.json()["frames"]
        return {frame["frame"]: frame["objects"] for frame in frames}

    async def metric(self, name: str) -> float:
        """A metric's value, 0 if it has none yet."""
        text = (await self.http.get("/metrics")).text
        values = [line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(values[0]) if values else 0.0


Serve = Callable[..., AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(redis_url: str, toy_folder: Path) -> Serve:
    """serve(gate, **settings); without a gate it is open."""

    @asynccontextmanager
    async def serve(gate: Gate | None = None, **changes: Any) -> AsyncIterator[Served]:
        if gate is None:
            gate = Gate()
            gate.opened.set()
        given = {"redis_url": redis_url, "weights": toy_folder, "model": "toy", "engine_threads": 1}
        async with (
            served(gate, Settings(**{**given, **changes})) as serving,
            httpx.AsyncClient(base_url=serving.url, timeout=PATIENCE_S) as http,
        ):
            yield Served(serving, gate, http)

    return serve
