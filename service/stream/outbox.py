"""The messages to be sent on one stream: bounded, in order, and put without waiting."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn

from service.stream.tasks import end_tasks

Message = str | bytes
SendMessage = Callable[[Message], Awaitable[None]]

# decision 37
WRITABLE_BYTES: Final = 256_000  # above it nothing new is begun until the client has read some


class SlowReader(Exception):
    """The client has not read a message for too long."""


class Outbox:
    """Messages in order. A producer waits until the outbox is writable, and then puts at once."""

    def __init__(self, send: SendMessage, *, stall_s: float) -> None:
        self._send = send
        self._stall_s = stall_s
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()  # at most WRITABLE_BYTES wait
        self._drained.set()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def is_writable(self) -> bool:
        """Whether something new may be begun."""
        return self._drained.is_set()

    async def wait_until_writable(self) -> None:
        """Wait until something new may be begun."""
        await self._drained.wait()

    async def flush(self, *, deadline_s: float) -> None:
        """Send what is left, as far as the client reads it in time."""
        tasks = [asyncio.create_task(part) for part in (self.deliver(), self._empty.wait())]
        await asyncio.wait(tasks, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(tasks)

    def put(self, *messages: Message) -> None:
        """Add messages at the end."""
        self._messages.extend(messages)
        self._bytes += sum(map(len, messages))
        self._filled.set()
        self._empty.clear()
        if self._bytes > WRITABLE_BYTES:
            self._drained.clear()

    async def deliver(self) -> NoReturn:
        """Send until cancelled; raise SlowReader if a message takes longer than the stall time."""
        while True:
            await self._filled.wait()
            message = self._messages[0]
            try:
                async with asyncio.timeout(self._stall_s):
                    await self._send(message)
            except TimeoutError as error:
                raise SlowReader from error
            self._messages.popleft()
            self._bytes -= len(message)
            if self._bytes <= WRITABLE_BYTES:
                self._drained.set()
            if not self._messages:
                self._filled.clear()
                self._empty.set()
