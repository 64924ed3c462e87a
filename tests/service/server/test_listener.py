"""How many connections there may be, and what happens to one more."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.errors import Misconfigured, Overloaded
from service.server.listener import OWN_FILES, Connections, allow_connections
from tests.service.server.conftest import ServeBounded
from tests.service.server.test_http_protocol import GET, problem_in
from tests.support.running import PATIENCE_S, running_service

BUSY = (503, "overloaded")


@pytest.mark.anyio
async def test_one_connection_too_many_is_refused(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(limit=2) as server, server.wire() as first, server.wire() as second:
        async with server.wire() as third:
            assert problem_in(await third.rest()) == BUSY
        for wire in (first, second):
            await wire.send(GET)
            assert (await wire.head()).startswith(b"HTTP/1.1 200 ")
        await first.reader.readexactly(4)
        await first.send(GET.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        await first.rest()
        async with server.wire() as fourth:
            await fourth.send(GET)
            assert (await fourth.head()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.anyio
async def test_one_address_leaves_room_for_others(serve_bounded: ServeBounded) -> None:
    async with serve_bounded(limit=3, peer_limit=1) as server, server.wire():
        async with server.wire() as again:
            assert problem_in(await again.rest()) == BUSY
        async with server.wire(source="127.0.0.2") as other:
            await other.send(GET)
            assert (await other.head()).startswith(b"HTTP/1.1 200 ")


def test_peers_that_have_gone_are_forgotten() -> None:
    connections = Connections(limit=2, peer_limit=1)
    for _ in range(3):
        connections.add("here")
        connections.remove("here")
    connections.add("here")
    with pytest.raises(Overloaded, match="your address"):
        connections.add("here")


def test_connections_leave_files_to_the_service() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert allow_connections(soft - OWN_FILES) == soft - OWN_FILES
        assert allow_connections(2 * hard) == hard - OWN_FILES
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
        assert allow_connections(50) == 50
        assert allow_connections(150) == 150
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 150 + OWN_FILES
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_service_without_files_refuses_and_comes_back(
    tmp_path: Path, toy_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with running_service(state=tmp_path, weights=toy_folder) as service, ExitStack() as stack:
        number = service.process.pid
        files = len(os.listdir(f"/proc/{number}/fd"))
        resource.prlimit(number, resource.RLIMIT_NOFILE, (files + 5, files + 5))
        address = (httpx.URL(service.url).host, httpx.URL(service.url).port)
        refused = []
        for _ in range(60):
            wire = stack.enter_context(socket.create_connection(address, PATIENCE_S))
            wire.settimeout(0.05)
            try:
                refused.append(wire.recv(10_000))
            except TimeoutError:
                continue
        assert len(refused) >= 50
        assert {problem_in(answer) for answer in refused} == {BUSY}
        stack.close()
        assert httpx.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200
        assert len(capfd.readouterr().err) < 10_000


def test_too_few_files_stop_the_start() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OWN_FILES, OWN_FILES))
        try:
            allow_connections(10)
        except Misconfigured:
            os._exit(7)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
