"""Middleware of every request: its one form, the rest of a refused body, headers."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

DRAINED_BYTES: Final = 64_000_000
DRAINED_S: Final = 5.0


class EquivalentRequests:
    """ASGI middleware that takes HEAD for GET, and a path with a closing slash for that without.

    The server leaves out the body of an answer to HEAD. The copy keeps the server's own scope.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changed: dict[str, Any] = {}
        if scope.get("method") == "HEAD":
            changed["method"] = "GET"
        # A slash that is part of a name is escaped. A file of the page has one address, and so
        # have the metrics: a proxy in front keeps that one inside.
        path = scope.get("path", "/")
        is_closed = scope.get("raw_path", b"").endswith(b"/") and path != "/"
        if is_closed and not path.startswith(("/web/", "/metrics")):
            changed |= {"path": path[:-1], "raw_path": scope["raw_path"][:-1]}
        await self._app({**scope, **changed} if changed else scope, receive, send)


class SafeHeaders:
    """ASGI middleware that keeps answers out of caches, and types from being guessed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("Cache-Control", "no-store")  # masks show people
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        await self._app(scope, receive, send_safely)


class Drain:
    """ASGI middleware that reads the rest of a refused body and drops it.

    A connection that is closed with unread bytes is reset, and then the client often loses the
    answer that explains the refusal. The rest is bounded in bytes and in time.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A client that waits for "100 Continue" has not sent its body.
        unread = all(name != b"expect" for name, _ in scope["headers"])

        async def watched_receive() -> Message:
            nonlocal unread
            message = await receive()
            unread = message.get("more_body", False)
            return message

        async def draining_send(message: Message) -> None:
            if unread and message["type"] == "http.response.start" and message["status"] >= 400:
                await _read_rest(watched_receive)
            await send(message)

        await self._app(scope, watched_receive, draining_send)


async def _read_rest(receive: Receive) -> None:
    """Read the body to its end, at most `DRAINED_BYTES` and for `DRAINED_S`."""
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
