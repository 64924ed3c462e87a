"""What a client may do with an HTTP connection, tried on a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path

import pytest

from service.server.bounds import IDLE_S
from tests.service.server.conftest import PATIENCE_S, ServeBounded, Wire

pytestmark = pytest.mark.anyio

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def problem_in(answer: bytes) -> tuple[int, str]:
    """Return the status and the name of the problem that closes a connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"Content-Type: application/problem+json" in head
    return int(head.split()[1]), json.loads(body)["type"].removeprefix("/problems/")


async def drip(wire: Wire, data: bytes) -> None:
    """Send the data again and again, a little at a time, until the connection breaks."""
    try:
        while True:
            await wire.send(data)
            await asyncio.sleep(0.05)
    except ConnectionError:
        return


async def test_half_a_head_is_answered_at_its_deadline(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.3) as server, server.wire() as wire:
        await wire.send(GET[:-2])
        assert problem_in(await wire.rest()) == (408, "slow-upload")


async def test_bytes_that_trickle_in_extend_no_deadline(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.3) as server, server.wire() as wire:
        begin = time.monotonic()
        dripping = asyncio.create_task(drip(wire, b"a"))
        assert problem_in(await wire.rest()) == (408, "slow-upload")
        assert time.monotonic() - begin < 5
        await dripping


async def test_an_idle_connection_is_kept_for_the_next_request(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        for wait_s in (0, 5.5):  # uvicorn alone closes after 5
            await asyncio.sleep(wait_s)
            await wire.send(GET)
            assert b"200 OK" in await wire.head()
            await wire.reader.readexactly(4)


def test_the_proxy_closes_idle_connections_first() -> None:
    """Else it sends a request into our close, and its client gets a 502."""
    proxy = (Path(__file__).parents[3] / "deploy/compose/traefik.yml").read_text()
    (kept_s,) = re.findall(r"idleConnTimeout: (\d+)s", proxy)
    assert int(kept_s) < IDLE_S


async def test_a_connection_that_says_nothing_is_closed(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.3) as server, server.wire() as wire:
        assert await wire.rest() == b""


async def test_the_next_head_has_a_deadline_too(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.3) as server, server.wire() as wire:
        await wire.send(GET)
        await wire.head()
        await wire.reader.readexactly(4)
        await wire.send(GET[:10])
        assert problem_in(await wire.rest()) == (408, "slow-upload")


async def test_the_rest_of_a_refused_body_has_a_deadline(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.3) as server, server.wire() as wire:
        await wire.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        await wire.head()
        dripping = asyncio.create_task(drip(wire, b"a"))
        assert await wire.rest() == b"fine"
        await dripping


async def test_a_request_may_take_longer_than_its_head(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(head_s=0.2) as server, server.wire() as wire:
        await wire.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
        for byte in b"body":
            await asyncio.sleep(0.1)
            await wire.send(bytes([byte]))
        assert (await wire.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""])
async def test_a_head_has_a_size(serve_bounded: ServeBounded, end: bytes) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + 20_000 * b"a" + end)
        assert problem_in(await wire.rest()) == (431, "head-too-large")


async def test_a_method_has_a_size(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(20_000 * b"A" + GET)
        assert problem_in(await wire.rest()) == (431, "head-too-large")


async def test_two_lengths_of_one_body_are_refused(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        lengths = b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"
        await wire.send(b"POST / HTTP/1.1\r\nHost: x\r\n" + lengths + b"\r\n0\r\n\r\n" + GET)
        assert problem_in(await wire.rest()) == (400, "bad-request")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\nX-Other: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: y\r\n z\r\n\r\n",
    ],
)
async def test_lines_that_parsers_read_differently_are_refused(
    serve_bounded: ServeBounded, head: bytes
) -> None:
    async with serve_bounded() as server:
        async with server.wire() as wire:
            await wire.send(head)
            assert problem_in(await wire.rest()) == (400, "bad-request")
        async with server.wire() as wire:  # also one that comes together with a right one
            await wire.send(GET + head)
            await wire.head()
            await wire.reader.readexactly(4)
            assert problem_in(await wire.rest()) == (400, "bad-request")


async def test_a_pipelined_request_inherits_nothing(serve_bounded: ServeBounded) -> None:
    request = b"GET /name HTTP/1.1\r\nHost: x\r\n\r\n"
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(2 * request)
        for _ in range(2):
            await wire.head()
            assert await wire.reader.readexactly(4) == b"none"


async def test_what_is_not_http_is_told_so(serve_bounded: ServeBounded) -> None:
    async with serve_bounded() as server, server.wire() as wire:
        await wire.send(b"\x16\x03\x01 hello\r\n\r\n")
        assert problem_in(await wire.rest()) == (400, "bad-request")


async def test_answers_that_nobody_reads_are_bounded(serve_bounded: ServeBounded) -> None:
    async with (
        serve_bounded(unread_bytes=3_000_000) as server,
        server.wire() as first,
        server.wire() as second,
        server.wire() as third,
    ):
        for wire in (first, second, third):
            await wire.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await wire.head()
            await asyncio.sleep(0.1)
        # What the first one has left would be too much with the others'.
        assert len(await first.rest()) < 2_000_000
        async with asyncio.timeout(PATIENCE_S):
            assert len(await third.reader.readexactly(2_000_000)) == 2_000_000
