"""An async stream of masks as an iterator: it runs in a thread, also between two steps."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import suppress
from typing import Final

from tamvt_client.streaming import StreamImage, Streaming
from tamvt_client.values import StreamedMasks

WAITING: Final = 64  # masks that are not taken yet
PATIENCE_S: Final = 0.1  # between looks whether anybody still listens


class StreamThread:
    """One stream in a thread of its own. Iterate once; leaving early ends the stream."""

    def __init__(self, streaming: Streaming, frames: Iterable[StreamImage]) -> None:
        self._streaming = streaming
        self._frames = frames
        self._found: queue.Queue[StreamedMasks | None] = queue.Queue(WAITING)
        self._left = threading.Event()
        self._leaving = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._failure: BaseException | None = None

    def __iter__(self) -> Iterator[StreamedMasks]:
        """The masks in order. Leaving waits until the source has given the frame it is at."""
        thread = threading.Thread(target=self._work, name="tamvt-stream", daemon=True)
        thread.start()
        try:
            while (masks := self._found.get()) is not None:
                yield masks
            if self._failure is not None:
                raise self._failure
        finally:
            self._left.set()
            if self._loop is not None:
                with suppress(RuntimeError):  # it has ended already
                    self._loop.call_soon_threadsafe(self._leaving.set)
            thread.join()

    def _work(self) -> None:
        try:
            asyncio.run(self._run())
        except BaseException as error:
            self._failure = error
        self._offer(None)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._left.is_set():
            return
        running = asyncio.create_task(self._streaming.run(self._one_by_one(), self._put))
        leaving = asyncio.create_task(self._leaving.wait())
        await asyncio.wait((running, leaving), return_when=asyncio.FIRST_COMPLETED)
        for task in (running, leaving):
            task.cancel()
        await asyncio.gather(running, leaving, return_exceptions=True)
        if not running.cancelled():
            running.result()

    async def _put(self, masks: StreamedMasks) -> None:
        if not self._found.full():
            self._found.put_nowait(masks)
        else:
            await asyncio.to_thread(self._offer, masks)

    def _offer(self, masks: StreamedMasks | None) -> None:
        while not self._left.is_set():
            with suppress(queue.Full):
                self._found.put(masks, timeout=PATIENCE_S)
                return

    async def _one_by_one(self) -> AsyncIterator[StreamImage]:
        """The source's frames; its own thread waits for each, so that nothing else does."""
        source = iter(self._frames)
        while (frame := await asyncio.to_thread(next, source, None)) is not None:
            yield frame
