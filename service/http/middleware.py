"""What happens around every request: it is counted, and the rest of a refused body is read."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.telemetry.metrics import Metrics

DRAINED_BYTES: Final = 64_000_000
DRAINED_S: Final = 5.0


class RequestMeter:
    """ASGI middleware that counts every request under the path of its route."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        begin = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with self._metrics.in_flight.track_inprogress():
            try:
                await self._app(scope, receive, watched)
            finally:
                self._count(scope, status=status, seconds=time.perf_counter() - begin)

    def _count(self, scope: Scope, *, status: int, seconds: float) -> None:
        # Unknown paths share one label: their number is up to the client.
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.requests.labels(scope["method"], route, status).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


class Drain:
    """ASGI middleware: reads on (and throws away) what is left of a refused body.

    A connection that is closed with unread bytes is reset, and the client then often loses the
    very answer that explains the refusal. What is read is bounded in bytes and in time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client that waits for "100 Continue" has sent nothing that would have to be read.
        unread = all(name != b"expect" for name, _ in scope["headers"])

        async def watched_receive() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def draining_send(message: Message) -> None:
            if unread and message["type"] == "http.response.start" and message["status"] >= 400:
                await _read_on(watched_receive)
            await send(message)

        await self._app(scope, watched_receive, draining_send)


async def _read_on(receive: Receive) -> None:
    left = DRAINED_BYTES
    try:
        async with asyncio.timeout(DRAINED_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return
