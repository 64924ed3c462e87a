"""What the tests do to a real Triton: stop one of its models for a while, cut its network."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import httpx

from model.export.triton.repository import write_repository
from service.local.triton import LocalTriton
from tests.support.running import PATIENCE_S


def regions(prefix: str) -> list[Path]:
    """Return the files of the regions whose names begin with `prefix`."""
    return sorted(Path("/dev/shm").glob(f"{prefix}*"))


def open_files() -> list[str]:
    """Return the file behind each of this process's descriptors."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(str(path.readlink()))
    return found


async def until(condition: Callable[[], bool], *, deadline_s: float = PATIENCE_S) -> None:
    """Wait until the condition holds; raise TimeoutError beyond the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  # it is about files, which send no events
            await asyncio.sleep(0.01)


GATE = """

_execute = TritonPythonModel.execute


def _when_the_gate_is_open(self, requests):
    import time

    closed, held = (Path(__file__).with_name(name) for name in ("closed", "held"))
    while closed.exists():
        held.touch()
        time.sleep(0.002)
    return _execute(self, requests)


TritonPythonModel.execute = _when_the_gate_is_open
"""


def write_gated_repository(weights: Path, target: Path) -> None:
    """Write the toy model for Triton's Python backend, with a gate that tests can close."""
    write_repository(weights, "toy", target, threads=1)
    for path in target.glob("*/*/model.py"):
        path.write_text(path.read_text() + GATE)


@contextmanager
def paused(repository: Path, verb: str = "segment") -> Iterator[Path]:
    """Stop the model of this verb within the block: Triton answers, but is slow.

    Yield a file that exists once a clip has reached the model.
    """
    (version,) = (path for path in (repository / f"toy_{verb}").iterdir() if path.is_dir())
    gate, held = version / "closed", version / "held"
    held.unlink(missing_ok=True)
    gate.touch()
    try:
        yield held
    finally:
        gate.unlink(missing_ok=True)


def waiting(server: LocalTriton, verb: str = "segment") -> int:
    """Return how many requests wait for the model of this verb, those that run left out."""
    text = httpx.get(server.metrics_url, timeout=PATIENCE_S).text
    name = "nv_inference_pending_request_count{"
    lines = (line for line in text.splitlines() if line.startswith(name))
    return sum(round(float(line.split()[-1])) for line in lines if f'"toy_{verb}"' in line)


class Relay:
    """A TCP relay before a server; `cut` breaks all connections and refuses new ones."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.url = ""

    def cut(self) -> None:
        """Break all connections, and every new one, until `restore`."""
        self._is_cut = True
        for task in self._connections:
            task.cancel()

    def restore(self) -> None:
        """Let new connections reach the server again."""
        self._is_cut = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Listen at `url` until the end of the block."""
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            self.url = f"{host}:{port}"
            try:
                yield
            finally:
                server.close()
                self.cut()
                await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if not self._is_cut:
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # cut
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, back))
                group.create_task(_pump(there, writer))
        finally:
            back.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
