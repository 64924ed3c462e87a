"""A small application behind the service's own socket and protocols, and raw connections to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from service.problems import write_refusal
from service.server.bounds import Bounds, UnreadResponses
from service.server.listener import Connections, open_listener
from service.server.uvicorn_server import make_server_config
from tests.support.gates import Server

PATIENCE_S = 20.0
NAME = ContextVar("NAME", default=b"none")


class Wire:
    """One raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Return all that comes until the service closes the connection."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read()
        except ConnectionError:
            return b""

    async def head(self) -> bytes:
        """Return the head of the next answer."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")


class Bounded:
    """A server that listens, and what its application was told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.told: list[dict[str, Any]] = []

    @asynccontextmanager
    async def wire(self, *, source: str = "127.0.0.1", buffer: int = 0) -> AsyncIterator[Wire]:
        """Yield a connection from an address of this machine, with a receive buffer of so much."""
        raw = socket.socket()
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.setblocking(False)
        raw.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=raw)
        try:
            yield Wire(reader, writer)
        finally:
            writer.close()


ServeBounded = Callable[..., AbstractAsyncContextManager[Bounded]]


@pytest.fixture
def serve_bounded() -> ServeBounded:
    """serve_bounded(limit, peer_limit, unread_bytes, **bounds): an application of few words.

    `/slow` takes a second, `/large` answers 2 MB, `/refuse` does not read its body, other paths
    read it, `/name` answers by the name that an earlier request of the connection left and leaves
    its own; a WebSocket is accepted, but for `/refuse`, and what it is told is kept.
    """

    @asynccontextmanager
    async def serve(
        *,
        limit: int = 100,
        peer_limit: int = 100,
        unread_bytes: int = 100_000_000,
        **bound: Any,
    ) -> AsyncIterator[Bounded]:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await (speak if scope["type"] == "websocket" else answer)(scope, receive, send)

        async def answer(scope: Any, receive: Any, send: Any) -> None:
            while scope["path"] != "/refuse" and (await receive()).get("more_body"):
                pass
            await asyncio.sleep(1.0 if scope["path"] == "/slow" else 0)
            body = bytes(2_000_000) if scope["path"] == "/large" else b"fine"
            if scope["path"] == "/name":
                body = NAME.get()
                NAME.set(b"mine")
            length = (b"content-length", str(len(body)).encode())
            await send({"type": "http.response.start", "status": 200, "headers": [length]})
            await send({"type": "http.response.body", "body": body})

        async def speak(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"] == "/refuse":
                await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
                await send({"type": "websocket.http.response.body", "body": b"no"})
                return
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                bounded.told.append(message)

        connections = Connections(limit=limit, peer_limit=peer_limit)
        with open_listener(
            "127.0.0.1", 0, connections=connections, write_refusal=write_refusal
        ) as listener:
            bounded = Bounded(listener.getsockname()[1])
            bounds = Bounds(UnreadResponses(max_bytes=unread_bytes), write_refusal, **bound)
            config = make_server_config(app, frame_bytes=1_000_000, ping_s=20.0, bounds=bounds)
            server = Server(config)
            running = asyncio.create_task(server.serve([listener]))
            await server.ready.wait()
            try:
                yield bounded
            finally:
                server.should_exit = True
                await running

    return serve
