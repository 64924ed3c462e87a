"""A bad network between a client and a service: it delays, stalls, and drops connections.

    python -m loadtests.bad_network PORT [--listen 9000] [--delay-ms 40] [--jitter-ms 20]
        [--stall-every-s 5] [--stall-s 1] [--drop-every-s 10]

What is sent arrives later, in order. From time to time nothing passes for a while, and then one
connection is cut in the middle. It listens on loopback, and passes on to loopback alone.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields

BLOCK = 65_536
QUEUED = 64  # blocks on their way in one direction; TCP makes the sender wait then
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFaults:
    """What is wrong with a network; 0 seconds between faults: there are none of the kind."""

    delay_ms: float = 40.0
    jitter_ms: float = 20.0
    stall_every_s: float = 5.0
    stall_s: float = 1.0
    drop_every_s: float = 10.0


@dataclass(slots=True)
class BadNetwork:
    """A relay to a port of this machine, and what it did to its connections."""

    target: int
    faults: NetworkFaults
    port: int = 0
    accepted: int = 0
    dropped: int = 0
    stalled: int = 0
    _open: list[asyncio.StreamWriter] = field(default_factory=list)
    _passing: asyncio.Event = field(default_factory=asyncio.Event)
    _random: random.Random = field(default_factory=lambda: random.Random(SEED))

    async def run(self, ended: asyncio.Event, started: threading.Event, *, port: int = 0) -> None:
        """Pass on until `ended`; `started` tells that `port` is known."""
        self._passing.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", port)
        self.port = int(server.sockets[0].getsockname()[1])
        started.set()
        faults = [asyncio.create_task(self._stall()), asyncio.create_task(self._drop())]
        await ended.wait()
        for task in faults:
            task.cancel()
        server.close()
        self._passing.set()
        for writer in list(self._open):
            writer.transport.abort()

    async def _stall(self) -> None:
        while self.faults.stall_every_s:
            await asyncio.sleep(self.faults.stall_every_s)
            self._passing.clear()
            self.stalled += 1
            await asyncio.sleep(self.faults.stall_s)
            self._passing.set()

    async def _drop(self) -> None:
        while self.faults.drop_every_s:
            await asyncio.sleep(self.faults.drop_every_s)
            if self._open:
                self._random.choice(self._open).transport.abort()
                self.dropped += 1

    async def _accept(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            from_far, far = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # nobody listens there now
            near.close()
            return
        self._open += [near, far]
        there = asyncio.create_task(self._pass_on(reader, far))
        back = asyncio.create_task(self._pass_on(from_far, near))
        try:
            await asyncio.wait([there, back])
        finally:
            for writer in (near, far):
                self._open.remove(writer)
                writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, later, until it ends; then end the other side."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)
        writing = asyncio.create_task(self._write_later(queue, writer))
        with suppress(OSError):
            while data := await reader.read(BLOCK):
                delay_ms = self.faults.delay_ms + self._random.random() * self.faults.jitter_ms
                await queue.put((time.monotonic() + delay_ms / 1000, data))
        await queue.put((0.0, b""))
        await writing

    async def _write_later(
        self, queue: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        is_broken = False
        while True:
            due_s, data = await queue.get()
            if not data:
                with suppress(OSError):
                    writer.write_eof()
                return
            if is_broken:  # the queue is emptied all the same, so that its reader ends
                continue
            await asyncio.sleep(due_s - time.monotonic())
            await self._passing.wait()
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                is_broken = True


@contextmanager
def bad_network_to(port: int, faults: NetworkFaults, *, listen: int = 0) -> Iterator[BadNetwork]:
    """Run such a relay on a thread of its own until the block is left."""
    started, loop, ended = threading.Event(), asyncio.new_event_loop(), asyncio.Event()
    network = BadNetwork(port, faults)

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(network.run(ended, started, port=listen))
        finally:
            started.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        if not started.wait(30) or not network.port:
            raise RuntimeError(f"the relay did not start on port {listen}")
        yield network
    finally:
        with suppress(RuntimeError):  # it has ended already
            loop.call_soon_threadsafe(ended.set)
        thread.join(30)


def main() -> None:
    """Pass on until Ctrl-C."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("port", type=int, help="that the service listens on, on loopback")
    parser.add_argument("--listen", type=int, default=9000, help="port of loopback")
    for each in fields(NetworkFaults):
        name = each.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=float, default=each.default)
    words = vars(parser.parse_args())
    port, listen = words.pop("port"), words.pop("listen")
    with (
        suppress(KeyboardInterrupt),
        bad_network_to(port, NetworkFaults(**words), listen=listen) as network,
    ):
        print(f"listening on http://127.0.0.1:{network.port}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
