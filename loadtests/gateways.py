"""Services to measure: processes of their own on loopback, each with a private Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
import psutil

from loadtests.load_video import LoadVideo
from service.commands.bench_service import served

HERE = Path(__file__).resolve().parents[1]
SERVE = ("-m", "service", "serve", "--port", "0")


@dataclass(frozen=True, slots=True)
class ServedGateway:
    """A running service and a client of it."""

    url: str
    process: psutil.Process
    http: httpx.Client

    def cpu_ms(self) -> float:
        """Return the milliseconds that the gateway's process has computed."""
        return 1000 * cpu_s(self.process)

    def start(self, video: LoadVideo) -> tuple[str, int]:
        """Start a session; return its id and the frames of a clip."""
        files = {"frame": ("0.jpg", video.frames[0]), "mask": ("0.png", video.mask)}
        started = self.http.post("/v1/sessions", files=files).raise_for_status().json()
        return started["session_id"], started["clip_length"]


def cpu_s(process: psutil.Process) -> float:
    """Return the seconds of processor time of this process alone."""
    times = process.cpu_times()
    return float(times.user + times.system)


@contextmanager
def gateway(*, threads: int, **others: str) -> Iterator[tuple[str, psutil.Process]]:
    """Yield the URL of a service of this checkout with these settings, and its process."""
    with served(threads=threads, settings=others) as service:
        yield service.url, psutil.Process(service.pid)


@contextmanager
def running_python(
    words: Sequence[str],
    *,
    checkout: Path = HERE,
    settings: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a Python that imports a checkout, with pipes to and from it, until the block is left."""
    paths = (str(checkout), str(checkout / "clients" / "python"))
    own = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    child = subprocess.Popen(
        [sys.executable, "-P", *words],
        cwd=checkout,
        env={**os.environ, **own, **(settings or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait(60)


@contextmanager
def running_gateway(
    *,
    words: Sequence[str] = SERVE,
    checkout: Path = HERE,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ServedGateway]:
    """Serve a checkout, or by other code, with a state of its own; its log goes to a file there."""
    with (
        tempfile.TemporaryDirectory(prefix="tamvt-load-") as state,
        open(os.path.join(state, "log"), "w", encoding="utf-8") as log,
        running_python(
            words, checkout=checkout, settings={"TAMVT_STATE": state, **(settings or {})}, log=log
        ) as child,
    ):
        assert child.stdout is not None
        listening = next((line for line in child.stdout if "listening on" in line), None)
        if listening is None:
            raise SystemExit(f"the service did not start: {Path(log.name).read_text()[-500:]}")
        url = listening.split()[-1]
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
            yield ServedGateway(url, psutil.Process(child.pid), http)
