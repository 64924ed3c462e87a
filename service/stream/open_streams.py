"""The streams that are open in this process: how many, and which session's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from service.errors import Overloaded


class Stoppable(Protocol):
    """A stream, as far as others may end it."""

    def replace(self) -> None:
        """End the stream: another one takes the session over."""
        ...

    def drain(self) -> None:
        """End the stream: the service shuts down."""
        ...


Signal = Callable[[Stoppable], None]


class SessionSlot:
    """A session's slot for one stream. Signals that come before the stream reach it later."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self._stream: Stoppable | None = None
        self._signals: list[Signal] = []

    def attach(self, stream: Stoppable) -> None:
        """Put the stream into the slot, and pass it the signals that came before."""
        self._stream = stream
        for signal in self._signals:
            signal(stream)

    def tell(self, signal: Signal) -> None:
        """Send a signal to the stream in this slot, or to the one that will be."""
        self._signals.append(signal)
        if self._stream is not None:
            signal(self._stream)


class OpenStreams:
    """Counts streams, ends the one that a new one replaces, and all of them on shutdown."""

    def __init__(self, *, max_streams: int, takeover_s: float = 10.0) -> None:
        self._max_streams = max_streams
        self._takeover_s = takeover_s
        self._slots: dict[str, SessionSlot] = {}  # the newest of each session
        self._open = 0
        self._all_left = asyncio.Event()
        self._all_left.set()
        self.draining = False

    def __len__(self) -> int:
        return self._open

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Count one more stream for the block; raise Overloaded where there are too many."""
        if self._open >= self._max_streams:
            raise Overloaded(f"{self._max_streams} streams are open; try again")
        self._open += 1
        self._all_left.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._all_left.set()

    @asynccontextmanager
    async def slot(self, session_id: str) -> AsyncIterator[SessionSlot]:
        """Yield the session's slot once the stream before has left, or had its time to."""
        mine = SessionSlot()
        before = self._slots.get(session_id)
        self._slots[session_id] = mine
        try:
            if before is not None:
                before.tell(lambda stream: stream.replace())
                await _wait(before.left, deadline_s=self._takeover_s)
            yield mine
        finally:
            mine.left.set()
            if self._slots.get(session_id) is mine:
                del self._slots[session_id]

    async def drain(self, *, deadline_s: float) -> None:
        """End every stream, and wait until all have left or the deadline is over."""
        self.draining = True
        for slot in list(self._slots.values()):
            slot.tell(lambda stream: stream.drain())
        await _wait(self._all_left, deadline_s=deadline_s)


async def _wait(event: asyncio.Event, *, deadline_s: float) -> None:
    try:
        async with asyncio.timeout(deadline_s):
            await event.wait()
    except TimeoutError:
        return
