"""Real Tritons of the tests' own, started by `tamvt triton`, to be killed and started again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.redis_servers import free_port
from tests.support.running import PATIENCE_S, ROOT, environment, tamvt


@dataclass
class TritonServer:
    """One Triton on a port that it keeps."""

    repository: Path
    port: int
    process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Runs it, and waits until it serves the model."""
        options = ["--port", str(self.port), "--metrics-port", "0"]
        self.process = subprocess.Popen(
            tamvt("triton", str(self.repository), *options),
            cwd=ROOT,
            env=environment({}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == f"serving on {self.url}\n", line

    def kill(self) -> None:
        """kill -9 of the server itself."""
        assert self.process is not None
        (server,) = psutil.Process(self.process.pid).children()
        server.kill()
        _, said = self.process.communicate(timeout=PATIENCE_S)
        assert "Triton ended by itself" in said

    def stop(self) -> None:
        """Ends it, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.communicate(timeout=PATIENCE_S)


@contextmanager
def running_triton(repository: Path) -> Iterator[TritonServer]:
    """A Triton on a free port until the block is left."""
    server = TritonServer(repository, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()
