"""A request's body, counted as it streams in: within a deadline, never more than allowed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.admission import Hold
from service.errors import PayloadTooLarge, SlowUpload

DRAINED_BYTES: Final = 64_000_000
DRAINED_S: Final = 5.0


async def body_chunks(
    request: Request, *, max_bytes: int, deadline_s: float, hold: Hold
) -> AsyncIterator[bytes]:
    """The body piece by piece; PayloadTooLarge, Overloaded or SlowUpload as soon as it is known."""
    check_length(announced_length(request), max_bytes=max_bytes)
    size = 0
    stream = request.stream()
    loop = asyncio.get_running_loop()
    until = loop.time() + deadline_s
    while True:
        try:
            async with asyncio.timeout_at(until):
                chunk = await anext(stream, b"")
        except TimeoutError as error:
            raise SlowUpload(f"the body did not arrive within {deadline_s:g} s") from error
        if not chunk:
            return
        size += len(chunk)
        check_length(size, max_bytes=max_bytes)
        hold.take(len(chunk))
        yield chunk


async def read_body(request: Request, *, max_bytes: int, deadline_s: float, hold: Hold) -> bytes:
    """The whole body."""
    chunks = body_chunks(request, max_bytes=max_bytes, deadline_s=deadline_s, hold=hold)
    return b"".join([chunk async for chunk in chunks])


def announced_length(request: Request) -> int:
    """The length that the client announces, 0 if none."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def check_length(size: int, *, max_bytes: int) -> None:
    """Nothing, or PayloadTooLarge."""
    if size > max_bytes:
        raise PayloadTooLarge(f"the body may have {max_bytes} bytes", limit=max_bytes)


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
