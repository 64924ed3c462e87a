"""Several gateways that are kept: what may go wrong while they start."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Sequence

import pytest

from service.local.gateways import GatewayCommand, keep_gateways
from tests.support.redis_servers import wait_until

pytestmark = pytest.mark.anyio
PATIENCE_S = 30.0
# A process that tells that it runs, is never ready, and ends at SIGTERM.
NEVER_READY = "import sys, time; open(sys.argv[1], 'w').close(); time.sleep(600)"


async def keep(words: Sequence[str], *, count: int = 3) -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = GatewayCommand(words, dict(os.environ), listening)
        async with asyncio.timeout(PATIENCE_S):
            return await keep_gateways(command, count=count, on_ready=lambda: None, stop_s=1.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_while_the_first_one_starts_ends_all(
    tmp_path_factory: pytest.TempPathFactory, number: signal.Signals
) -> None:
    running = tmp_path_factory.mktemp("gateways") / "running"
    kept = asyncio.create_task(keep([sys.executable, "-c", NEVER_READY, str(running)]))
    await asyncio.to_thread(wait_until, running.exists, what="the first one")
    os.kill(os.getpid(), number)
    assert await kept == 0


async def test_one_that_cannot_be_started_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert await keep(["/nowhere/gateway"]) == 1
    assert "a worker cannot be started" in caplog.text


async def test_one_that_ends_before_it_is_ready_gives_its_status() -> None:
    assert await keep([sys.executable, "-c", "raise SystemExit(7)"]) == 7
