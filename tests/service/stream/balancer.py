"""What stands before several gateways: each connection goes to the first that takes it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx


@dataclass
class Balancer:
    """`targets` are the URLs of the gateways, in order of preference."""

    targets: list[str] = field(default_factory=list)
    url: str = ""
    _open_now: set[asyncio.StreamWriter] = field(default_factory=set)

    def cut(self) -> None:
        """Breaks every connection that is open."""
        for writer in self._open_now:
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Joins a connection with a gateway, or closes it."""
        self._open_now.add(writer)
        with suppress(OSError, asyncio.CancelledError):
            there = await self._open()
            if there is not None:
                back = (there[0], writer)
                await asyncio.gather(_copy(reader, there[1]), _copy(*back))
        self._open_now.discard(writer)
        writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        for target in list(self.targets):
            url = httpx.URL(target)
            with suppress(OSError):
                return await asyncio.open_connection(url.host, url.port)
        return None


@asynccontextmanager
async def balanced() -> AsyncIterator[Balancer]:
    """A balancer on a free port until the block is left."""
    balancer = Balancer()
    server = await asyncio.start_server(balancer.serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        balancer.url = f"http://{host}:{port}"
        yield balancer
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
