"""What is to be sent on one stream: bounded, in order, and never waited for by others."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

Message = str | bytes
SendMessage = Callable[[Message], Awaitable[None]]

# decision 37
WRITABLE_BYTES: Final = 256_000  # above it nothing new is begun until the client has read some


class SlowReader(Exception):
    """The client has not read for too long."""


class Outbox:
    """Messages in order. Who produces them asks for room first, and then puts without waiting."""

    def __init__(self, send: SendMessage, *, stall_s: float) -> None:
        self._send = send
        self._stall_s = stall_s
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()  # below the mark
        self._drained.set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_writable(self) -> bool:
        """Whether something new may be begun."""
        return self._drained.is_set()

    async def wait_until_writable(self) -> None:
        """Nothing, once something new may be begun."""
        await self._drained.wait()

    async def empty(self) -> None:
        """Nothing, once every message has been sent."""
        await self._empty.wait()

    def put(self, *messages: Message) -> None:
        """Adds messages at the end."""
        self._messages.extend(messages)
        self._bytes += sum(map(len, messages))
        self._filled.set()
        self._empty.clear()
        if self._bytes > WRITABLE_BYTES:
            self._drained.clear()

    async def deliver(self) -> NoReturn:
        """Sends for ever; SlowReader if a message cannot be sent within the stall time."""
        while True:
            await self._filled.wait()
            message = self._messages[0]
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._send(message)
            except TimeoutError as error:
                raise SlowReader from error
            self._sent(message)

    def _sent(self, message: Message) -> None:
        self._messages.popleft()
        self._bytes -= len(message)
        if self._bytes <= WRITABLE_BYTES:
            self._drained.set()
        if not self._messages:
            self._filled.clear()
            self._empty.set()
