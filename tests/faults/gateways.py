"""Gateways as processes of their own, that can be killed, paused and started again."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.support.running import PATIENCE_S, ROOT, environment, tamvt


@dataclass
class Gateway:
    """One process of the service on a free port."""

    settings: Mapping[str, str]
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def start(self) -> None:
        """Runs it, and waits until it is ready."""
        self.process = subprocess.Popen(
            tamvt("serve", "--port", "0"),
            cwd=ROOT,
            env=environment(self.settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), line
        self.url = line.split()[-1]

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """Ends it, whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self._reap()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def children(self) -> list[psutil.Process]:
        """Its private Redis, if it has one."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children()

    def connections(self, *ports: int) -> int:
        """How many connections it has to these ports."""
        assert self.process is not None
        found = psutil.Process(self.process.pid).net_connections("tcp")
        return sum(bool(each.raddr) and each.raddr.port in ports for each in found)

    def open_files(self, *, apart_from: Sequence[int]) -> int:
        """How many files it has open, without its connections to these ports and its callers'.

        A caller's may end a moment after its answer, and is none that a fault has left.
        """
        assert self.process is not None
        process = psutil.Process(self.process.pid)
        own = urlsplit(self.url).port
        others = {
            each.fd
            for each in process.net_connections("tcp")
            if each.raddr and (each.raddr.port in apart_from or each.laddr.port == own)
        }
        return sum(
            int(each.name) not in others for each in Path(f"/proc/{process.pid}/fd").iterdir()
        )

    def requests_in_flight(self) -> int:
        """How many requests it works on, apart from the one that asks."""
        text = httpx.get(f"{self.url}/metrics", timeout=PATIENCE_S).text
        name = "tamvt_requests_in_flight "
        line = next(line for line in text.splitlines() if line.startswith(name))
        return round(float(line.removeprefix(name))) - 1

    def _reap(self) -> None:
        assert self.process is not None
        self.process.communicate(timeout=PATIENCE_S)


@contextmanager
def gateways(count: int, weights: Path, **settings: object) -> Iterator[Sequence[Gateway]]:
    """So many gateways that serve the toy model, until the block is left."""
    given = {"weights": weights, "model": "toy", "log_level": "error", "canary_interval_s": 0}
    given |= settings
    named = {f"TAMVT_{name.upper()}": str(value) for name, value in given.items()}
    with ExitStack() as stack:
        found = [Gateway(named) for _ in range(count)]
        for gateway in found:
            stack.callback(gateway.stop)
            gateway.start()
        yield found
