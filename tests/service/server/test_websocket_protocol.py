"""What a client may do with a WebSocket, tried on a real socket."""

from __future__ import annotations

import asyncio
import logging
import struct
from contextlib import suppress

import pytest

from service.server.websocket_protocol import MAX_FRAGMENTS, SMALL_AT_ONCE
from tests.service.server.conftest import PATIENCE_S, Bounded, ServeBounded, Wire

pytestmark = pytest.mark.anyio

CONTINUED, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9


def handshake(path: str = "/", *, version: str = "HTTP/1.1") -> bytes:
    return (
        f"GET {path} {version}\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    ).encode()


def frame(opcode: int, data: bytes = b"", *, last: bool = True) -> bytes:
    """Return a frame, masked with zeros."""
    length = bytes([128 | len(data)]) if len(data) < 126 else struct.pack(">BH", 254, len(data))
    return bytes([opcode | (128 if last else 0)]) + length + bytes(4) + data


def close_in(data: bytes) -> tuple[int, str]:
    """Return the code and the reason of the close frame at the end."""
    at = data.rindex(bytes([128 | CLOSE]))
    assert at + 2 + data[at + 1] == len(data)
    return struct.unpack(">H", data[at + 2 : at + 4])[0], data[at + 4 :].decode()


async def open_socket(wire: Wire) -> None:
    await wire.send(handshake())
    assert (await wire.head()).startswith(b"HTTP/1.1 101 ")


async def until_told(server: Bounded, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(server.told) < count:  # noqa: ASYNC110  (the application is told by the loop)
            await asyncio.sleep(0.01)


async def test_a_handshake_with_a_long_path_is_answered(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(handshake("/" + 9000 * "a"))
        assert (await wire.rest()).startswith(b"HTTP/1.1 414 ")


async def test_a_handshake_that_is_not_understood_is_answered(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(handshake().replace(b"GET", b"POST"))
        answer = await wire.rest()
        assert answer.startswith(b"HTTP/1.1 4")


async def test_a_message_in_the_handshake_s_packet_is_not_lost(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(handshake() + frame(PING) + frame(TEXT, b"hello"))
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        await until_told(server, 1)
        assert server.told[0]["text"] == "hello"


async def test_a_refused_handshake_leaves_no_line(
    serve_bounded: ServeBounded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(handshake("/refuse"))
        assert (await wire.rest()).startswith(b"HTTP/1.1 403 ")
    assert caplog.text == ""


async def test_text_that_is_not_utf8_closes_the_stream_without_a_traceback(
    serve_bounded: ServeBounded, caplog: pytest.LogCaptureFixture
) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await open_socket(wire)
        await wire.send(frame(TEXT, b"h\xc3", last=False) + frame(CONTINUED, b"\xa9llo"))
        await until_told(server, 1)
        await wire.send(frame(TEXT, b"\xff\xfe"))
        assert close_in(await wire.rest())[0] == 1007
    assert [message["text"] for message in server.told] == ["héllo"]
    assert "Traceback" not in caplog.text


async def test_a_message_has_a_number_of_fragments(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await open_socket(wire)
        piece = bytes(600)
        middle = (MAX_FRAGMENTS - 2) * frame(CONTINUED, piece, last=False)
        await wire.send(frame(BINARY, piece, last=False) + middle + frame(CONTINUED, piece))
        await until_told(server, 1)
        assert len(server.told[0]["bytes"]) == MAX_FRAGMENTS * 600
        await wire.send(frame(BINARY, piece, last=False) + middle)
        await wire.send(2 * frame(CONTINUED, piece, last=False))
        code, reason = close_in(await wire.rest())
        assert (code, "fragments" in reason) == (1002, True)


async def test_small_frames_have_a_rate(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await open_socket(wire)
        await wire.send(1000 * frame(TEXT, b"{}"))
        await until_told(server, 1000)
        await wire.send((SMALL_AT_ONCE + 1000) * frame(PING))
        code, reason = close_in(await wire.rest())
        assert (code, "small frames" in reason) == (1002, True)


async def test_pongs_that_nobody_reads_end_the_stream(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(unread_pongs=50_000) as server, server.wire(buffer=4096) as wire:
        await open_socket(wire)
        assert isinstance(wire.writer.transport, asyncio.Transport)
        wire.writer.transport.pause_reading()
        await wire.send(1900 * frame(PING, bytes(125)))
        await until_closed(wire)


async def until_closed(wire: Wire) -> None:
    """Send until the service has closed the connection."""
    async with asyncio.timeout(PATIENCE_S):
        with suppress(ConnectionError):
            while True:
                await wire.send(frame(PING))
                await asyncio.sleep(0.05)
