"""The stream as a stranger's client would speak it: bytes and JSON, nothing of our own client."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.support import scene

HEADER = struct.Struct(">BBHIQ")
PATIENT = 60_000  # ms: no clip is cut short by time
QUIET_S = 50.0  # less than PATIENT: a clip that is not whole fails a test that waits for it


def frame(number: int, image: bytes | None = None, *, timestamp: int = 0, flags: int = 0) -> bytes:
    """The binary message of a frame; its image is the scene's."""
    return HEADER.pack(1, flags, 0, number, timestamp) + (image or scene.jpeg(number))


def text(kind: str, **members: object) -> str:
    """A text message."""
    return json.dumps({"type": kind, **members})


@dataclass
class Talk:
    """One open stream and what was heard on it."""

    socket: ClientConnection
    heard: list[dict[str, Any]] = field(default_factory=list)

    def send(self, *messages: bytes | str) -> None:
        """Sends what is given."""
        for message in messages:
            self.socket.send(message)

    def send_frames(self, numbers: Sequence[int]) -> None:
        """Sends frames of the scene."""
        self.send(*(frame(number, timestamp=1000 * number) for number in numbers))

    def hear(self) -> dict[str, Any]:
        """The next text message."""
        message = self.socket.recv(QUIET_S)
        assert isinstance(message, str), message
        self.heard.append(json.loads(message))
        return self.heard[-1]

    def hear_bytes(self) -> bytes:
        """The next message, which is binary."""
        message = self.socket.recv(QUIET_S)
        assert isinstance(message, bytes)
        return message

    def hear_masks(self, count: int) -> list[dict[str, Any]]:
        """So many `masks`, one after the other."""
        found = [self.hear() for _ in range(count)]
        assert {message["type"] for message in found} <= {"masks"}, found
        return found

    def hear_close(self) -> int:
        """The close code, once everything before it has been heard."""
        try:
            while True:
                self.hear()
        except ConnectionClosed as closed:
            return close_code(closed)

    def hear_error(self) -> tuple[int, str]:
        """The close code, and the name of the problem that the last message told."""
        code = self.hear_close()
        return code, problem_name(self.heard[-1])


@dataclass
class AsyncTalk:
    """`Talk` to be awaited, for a service that runs in the test's own event loop."""

    socket: AsyncConnection
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def send(self, *messages: bytes | str) -> None:
        """Sends what is given."""
        for message in messages:
            await self.socket.send(message)

    async def send_frames(self, numbers: Sequence[int]) -> None:
        """Sends frames of the scene."""
        await self.send(*(frame(number, timestamp=1000 * number) for number in numbers))

    async def hear(self) -> dict[str, Any]:
        """The next text message; binary ones are passed over."""
        async with asyncio.timeout(QUIET_S):
            while not isinstance(message := await self.socket.recv(), str):
                pass
        self.heard.append(json.loads(message))
        return self.heard[-1]

    async def hear_masks(self, count: int) -> list[dict[str, Any]]:
        """So many `masks`, one after the other."""
        found = [await self.hear() for _ in range(count)]
        assert {message["type"] for message in found} <= {"masks"}, found
        return found

    async def hear_close(self) -> int:
        """The close code, once everything before it has been heard."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closed:
            return close_code(closed)

    async def hear_error(self) -> tuple[int, str]:
        """The close code, and the name of the problem that the last message told."""
        code = await self.hear_close()
        return code, problem_name(self.heard[-1])


def close_code(closed: ConnectionClosed) -> int:
    """The code that the service gave."""
    assert closed.rcvd is not None, "the connection broke"
    return closed.rcvd.code


def problem_name(message: dict[str, Any]) -> str:
    """The problem of an `error`."""
    problem = message["problem"]
    assert problem["detail"]
    return str(problem["type"]).removeprefix("/problems/")


def address(url: str, session: str, **query: Any) -> str:
    """The stream's address; `from` is written `from_`."""
    parameters = {"max_wait_ms": PATIENT, **query}
    words = "&".join(f"{name.rstrip('_')}={value}" for name, value in parameters.items())
    return f"ws{url.removeprefix('http')}/v1/sessions/{session}/stream?{words}"


def small_socket(url: str) -> socket.socket:
    """A connection whose receiving end holds little, so that not reading shows soon."""
    wire = socket.socket()
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wire.connect((httpx.URL(url).host, httpx.URL(url).port))
    return wire


@asynccontextmanager
async def async_talk(
    url: str,
    session: str,
    *,
    ready: bool = True,
    headers: Mapping[str, str] | None = None,
    sock: socket.socket | None = None,
    **query: Any,
) -> AsyncIterator[AsyncTalk]:
    """A stream of the session."""
    async with connect_async(
        address(url, session, **query),
        subprotocols=[Subprotocol("tamvt.v1")],
        compression=None,
        proxy=None,
        open_timeout=QUIET_S,
        ping_interval=None,
        additional_headers=dict(headers or {}),
        sock=sock,
        max_queue=4,
    ) as connection:
        found = AsyncTalk(connection)
        if ready:
            assert (await found.hear())["type"] == "ready", found.heard
        yield found


@contextmanager
def talk(
    url: str,
    session: str,
    *,
    ready: bool = True,
    headers: Mapping[str, str] | None = None,
    sock: socket.socket | None = None,
    **query: Any,
) -> Iterator[Talk]:
    """A stream of the session."""
    with connect(
        address(url, session, **query),
        subprotocols=[Subprotocol("tamvt.v1")],
        compression=None,
        proxy=None,
        open_timeout=QUIET_S,
        ping_interval=None,
        additional_headers=dict(headers or {}),
        sock=sock,
        max_queue=4,
    ) as connection:
        found = Talk(connection)
        if ready:
            assert found.hear()["type"] == "ready", found.heard
        yield found


def objects(messages: Sequence[dict[str, Any]]) -> dict[int, Any]:
    """The objects of `masks` messages, or of frames from REST, by frame."""
    return {message["frame"]: message["objects"] for message in messages}
