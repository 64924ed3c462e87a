"""A real Prometheus that scrapes a service."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

PATIENCE_S = 60.0


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus that runs."""

    http: httpx.Client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now; fail if Prometheus cannot evaluate it."""
        answer = self.http.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_for(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression, once there are some."""
        until = time.monotonic() + PATIENCE_S
        while not (found := self.query(expression)):
            assert time.monotonic() < until, f"no samples of {expression}"
            time.sleep(0.2)
        return found


@contextmanager
def running_prometheus(
    folder: Path, target: str, *, rules: Sequence[Path] = (), interval: str = "500ms"
) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes `target` (host:port) often, until the end of the block."""
    program = shutil.which("prometheus")
    assert program, "no Prometheus: scripts/setup everything installs the package prometheus"
    config = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": "gateway", "static_configs": [{"targets": [target]}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        program,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
        "--log.level=error",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=PATIENCE_S) as http:
            until = time.monotonic() + PATIENCE_S
            while not _is_ready(http):
                assert process.poll() is None, "Prometheus did not start"
                assert time.monotonic() < until, "Prometheus is not ready"
                time.sleep(0.1)
            yield Prometheus(http)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False
