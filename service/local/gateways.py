"""Several gateway processes on one listening socket: kept running, and stopped together.

The socket is inherited, so a connection that waits to be accepted is not lost with the process
that ends: another one takes it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from service.local.supervisor import SIGNALS, end_with_parent

RESTART_S: Final = (0.1, 5.0)  # the shortest and the longest pause before one is started again
STEADY_S: Final = 10.0  # who lived so long did not end because of how it was started
KILL_S: Final = 10.0  # beyond the time that a gateway has to stop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GatewayCommand:
    """How one is started: it accepts from `listening`, and writes a byte when it is ready.

    The numbers of the two file descriptors are the last words of its command line.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    listening: socket.socket

    async def start(self) -> tuple[Process, int]:
        """Return the process, and a pipe's end that a byte comes from when it is ready."""
        ready, tell = os.pipe()
        try:
            files = (self.listening.fileno(), tell)
            process = await asyncio.create_subprocess_exec(
                *self.words,
                *map(str, files),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=files,
                env=self.environment,
                start_new_session=True,  # Ctrl-C in the terminal is for us to handle
                preexec_fn=end_with_parent(os.getpid()),
            )
        except BaseException:
            os.close(ready)
            raise
        finally:
            os.close(tell)
        return process, ready


class Gateways:
    """The processes of a service. Made by `keep_gateways`."""

    def __init__(self, command: GatewayCommand) -> None:
        self._command = command
        self._running: set[Process] = set()
        self._stopping = asyncio.Event()

    async def keep(self, *, first: asyncio.Future[int | None]) -> None:
        """Keep one running until all are stopped.

        `first` is set to None when it is ready for the first time, or to the status with which it
        ended before that (1: it could not be started); then it is not started again.
        """
        pause_s = RESTART_S[0]
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                status = await self._run_one(first)
            except OSError as error:
                log.error("a worker cannot be started: %s", error)
                status = 1
            if not first.done():
                first.set_result(status)
                return
            lived_s = time.monotonic() - began
            pause_s = RESTART_S[0] if lived_s > STEADY_S else min(2 * pause_s, RESTART_S[1])
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause_s)
        if not first.done():
            first.set_result(0)

    async def _run_one(self, first: asyncio.Future[int | None]) -> int:
        """Start one and wait for its end; return its status. Raise OSError if it does not start."""
        process, ready = await self._command.start()
        self._running.add(process)
        try:
            if self._stopping.is_set():  # it came too late to be told
                process.terminate()
            if await _byte_comes(ready) and not first.done():
                first.set_result(None)
            status = await process.wait()
        finally:
            self._running.discard(process)
        if first.done() and not self._stopping.is_set():
            log.error("worker %s ended with status %s; it is started again", process.pid, status)
        return status

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send all that run a signal, and start none again."""
        self._stopping.set()
        for process in self._running:
            with suppress(ProcessLookupError):
                process.send_signal(number)


async def keep_gateways(
    command: GatewayCommand, *, count: int, on_ready: Callable[[], None], stop_s: float
) -> int:
    """Run `count` gateways until SIGTERM or SIGINT; return 0, or the status of one that failed.

    The first one starts alone: what it cannot start for is said once, and what it compiles the
    others find. One that ends later is started again. At the signal all are told to stop, and have
    `stop_s` to do so; a second signal ends them at once. The listening socket is closed then.
    """
    loop = asyncio.get_running_loop()
    gateways, told = Gateways(command), asyncio.Event()

    def note() -> None:
        told.set()
        gateways.stop()

    for number in SIGNALS:
        loop.add_signal_handler(number, note)
    keepers: list[asyncio.Task[None]] = []
    try:
        for few in (1, count - 1):
            firsts = [loop.create_future() for _ in range(few)]
            keepers += [asyncio.create_task(gateways.keep(first=first)) for first in firsts]
            failed = next(filter(None, await asyncio.gather(*firsts)), 0)
            if failed and not told.is_set():
                return failed if failed > 0 else 1
        if not told.is_set():
            on_ready()
        await told.wait()
        return 0
    finally:
        command.listening.close()
        gateways.stop()
        _, late = await asyncio.wait(keepers, timeout=stop_s + KILL_S)
        if late:
            log.error("%s workers did not stop in time and are killed", len(late))
            gateways.stop(signal.SIGKILL)
        await asyncio.gather(*keepers)
        for number in SIGNALS:
            loop.remove_signal_handler(number)


async def _byte_comes(pipe: int) -> bool:
    """Return whether a byte comes from a pipe before its other end is closed; close it."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(pipe, "rb")
    )
    try:
        return bool(await reader.read(1))
    finally:
        transport.close()
