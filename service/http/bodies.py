"""A request's body, read with a deadline and counted as it streams in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request

from service.access.admission import Reservation
from service.errors import PayloadTooLarge, SlowUpload, UnsupportedMedia, echo
from service.http.dependencies import UploadLimits

GRACE_S: Final = 2.0  # until the least rate counts


async def read_chunks(
    request: Request, *, max_bytes: int, limits: UploadLimits, reservation: Reservation
) -> AsyncIterator[bytes]:
    """Yield the body in chunks.

    Raise UnsupportedMedia for one that is compressed, PayloadTooLarge, Overloaded or SlowUpload
    early.
    """
    coding = request.headers.get("content-encoding", "identity")
    if coding.strip().lower() != "identity":
        raise UnsupportedMedia(f"the body is coded as {echo(coding)!r}; send it as it is")
    check_length(read_announced_length(request), max_bytes=max_bytes)
    size = 0
    stream = request.stream()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    while True:
        # A body that stays behind the least rate holds what others could have.
        late = begin + GRACE_S + size / limits.bytes_per_s
        until = begin + limits.deadline_s
        try:
            async with asyncio.timeout_at(min(late, until)):
                chunk = await anext(stream, b"")
        except TimeoutError as error:
            if loop.time() < until:
                raise SlowUpload(
                    f"the body comes more slowly than {limits.bytes_per_s} bytes a second"
                ) from error
            raise SlowUpload(f"the body did not arrive within {limits.deadline_s:g} s") from error
        if not chunk:
            return
        size += len(chunk)
        check_length(size, max_bytes=max_bytes)
        reservation.take(len(chunk))
        yield chunk


async def read_body(
    request: Request, *, max_bytes: int, limits: UploadLimits, reservation: Reservation
) -> bytes:
    """Return the whole body; raise as `read_chunks` does."""
    chunks = read_chunks(request, max_bytes=max_bytes, limits=limits, reservation=reservation)
    return b"".join([chunk async for chunk in chunks])


def read_announced_length(request: Request) -> int:
    """Return the length that the client announces, 0 if none."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def check_length(size: int, *, max_bytes: int) -> None:
    """Raise PayloadTooLarge if a body of `size` bytes is."""
    if size > max_bytes:
        raise PayloadTooLarge(f"the body may have {max_bytes} bytes", limit=max_bytes)
