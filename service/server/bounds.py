"""What a connection may cost, and uvicorn's configuration that carries it to the protocols."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from service.errors import TamvtError

HEAD_S: Final = 10.0
# Between requests: longer than a proxy keeps a connection, so that no request meets our close.
IDLE_S: Final = 75
HEAD_BYTES: Final = 16_384
UNREAD_PONGS: Final = 1_000_000  # bytes, with what else waits before them

WriteRefusal = Callable[[TamvtError], bytes]  # the whole HTTP answer, after which we close


class UnreadResponses:
    """The answers that clients do not read: their bytes are bounded over all connections."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: dict[asyncio.Transport, None] = {}  # the longest first

    def add(self, transport: asyncio.Transport) -> None:
        """Note that a client does not read; where that is too much, the longest is cut off."""
        self._waiting[transport] = None
        while len(self._waiting) > 1:
            nbytes = sum(each.get_write_buffer_size() for each in self._waiting)
            if nbytes <= self._max_bytes:
                break
            longest = next(iter(self._waiting))
            self.remove(longest)
            longest.abort()

    def remove(self, transport: asyncio.Transport) -> None:
        """Note that the client has read, or has gone."""
        self._waiting.pop(transport, None)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a connection may cost; `unread` is shared by all."""

    unread: UnreadResponses
    write_refusal: WriteRefusal
    head_s: float = HEAD_S
    head_bytes: int = HEAD_BYTES
    unread_pongs: int = UNREAD_PONGS


class ServerConfig(uvicorn.Config):
    """uvicorn hands its configuration to each protocol, and nothing else of ours."""

    def __init__(self, *args: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(*args, **options)
        self.bounds = bounds
