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
    """The files of the regions whose names begin so."""
    return sorted(Path("/dev/shm").glob(f"{prefix}*"))


def open_files() -> list[str]:
    """What each of this process's descriptors stands for."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that lists them
            found.append(str(path.readlink()))
    return found


async def until(condition: Callable[[], bool], *, deadline_s: float = PATIENCE_S) -> None:
    """Nothing, once the condition holds; TimeoutError."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110  # it is about files, of which nobody tells us
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
    """The toy model as Triton's Python backend serves it, with a gate that tests can close."""
    write_repository(weights, "toy", target, threads=1)
    for path in target.glob("*/*/model.py"):
        path.write_text(path.read_text() + GATE)


@contextmanager
def paused(repository: Path, verb: str = "segment") -> Iterator[Path]:
    """While inside, the model of this verb computes nothing: Triton is there, but slow.

    The file that is given is there once a clip has come as far as the model.
    """
    (version,) = (path for path in (repository / f"toy_{verb}").iterdir() if path.is_dir())
    gate, held = version / "closed", version / "held"
    held.unlink(missing_ok=True)
    gate.touch()
    try:
        yield held
    finally:
        gate.unlink()


def waiting(server: LocalTriton, verb: str = "segment") -> int:
    """How many requests wait for the model of this verb, apart from those that it works on."""
    text = httpx.get(server.metrics_url, timeout=PATIENCE_S).text
    name = "nv_inference_pending_request_count{"
    lines = (line for line in text.splitlines() if line.startswith(name))
    return sum(round(float(line.split()[-1])) for line in lines if f'"toy_{verb}"' in line)


class Relay:
    """A TCP relay in front of a server; `cut` breaks all connections, and lets in no others."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self._connections: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.url = ""

    def cut(self) -> None:
        """From now on nobody reaches the server."""
        self._is_cut = True
        for task in self._connections:
            task.cancel()

    def restore(self) -> None:
        """New connections reach the server again."""
        self._is_cut = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While inside, the relay listens at `url`."""
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
