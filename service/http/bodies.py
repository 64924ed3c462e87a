"""A request's body, read with a deadline and counted as it streams in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.requests import Request

from service.access.admission import Reservation
from service.errors import PayloadTooLarge, SlowUpload


async def body_chunks(
    request: Request, *, max_bytes: int, deadline_s: float, reservation: Reservation
) -> AsyncIterator[bytes]:
    """Yield the body in chunks; raise PayloadTooLarge, Overloaded or SlowUpload early."""
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
        reservation.take(len(chunk))
        yield chunk


async def read_body(
    request: Request, *, max_bytes: int, deadline_s: float, reservation: Reservation
) -> bytes:
    """Return the whole body; raise as `body_chunks` does."""
    chunks = body_chunks(
        request, max_bytes=max_bytes, deadline_s=deadline_s, reservation=reservation
    )
    return b"".join([chunk async for chunk in chunks])


def announced_length(request: Request) -> int:
    """Return the length that the client announces, 0 if none."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def check_length(size: int, *, max_bytes: int) -> None:
    """Raise PayloadTooLarge if a body of `size` bytes is."""
    if size > max_bytes:
        raise PayloadTooLarge(f"the body may have {max_bytes} bytes", limit=max_bytes)
