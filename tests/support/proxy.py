"""A relay before a real Redis that loses an answer, as a network may."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def losing_one_answer(url: str, *, to: str) -> AsyncIterator[str]:
    """Relay `url` until the end of the block, at the URL that is yielded.

    Redis runs the first command that contains `to`, but the connection is closed before its answer.
    """
    relay = _Relay(url.removeprefix("unix://"), to.encode())
    with tempfile.TemporaryDirectory(prefix="relay-") as folder:
        path = str(Path(folder) / "relay.sock")
        async with await asyncio.start_unix_server(relay.serve, path) as server:
            yield f"unix://{path}"
            server.close()
        await relay.drained()


class _Relay:
    def __init__(self, target: str, sign: bytes) -> None:
        self._target = target
        self._sign: bytes | None = sign
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_unix_connection(self._target)
        try:
            while (request := await reader.read(1 << 20)) and not self._is_cut(request):
                back.write(request)
                writer.write(await there.read(1 << 20))
            if request:
                back.write(request)
                await there.read(1 << 20)  # the command has run, and its answer is lost
        finally:
            for side in (back, writer):
                side.close()
            self._tasks.discard(task)

    async def drained(self) -> None:
        """Wait until every connection is closed."""
        await asyncio.gather(*self._tasks)

    def _is_cut(self, request: bytes) -> bool:
        if self._sign is None or self._sign not in request:
            return False
        self._sign = None
        return True
