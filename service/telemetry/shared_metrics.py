"""The metrics of several workers as one answer: each leaves its own in a folder for the others.

A connection for `/metrics` reaches any of them. Samples get the label `worker`, and are not added
up: a worker that is started again then ends its series, where a sum would fall and look like a
start from 0.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from service.telemetry.metrics import Metrics

PUBLISH_S: Final = 2.0
FRESH_S: Final = 10.0  # an older file is that of a worker that has ended
SUFFIX: Final = ".prom"


class SharedMetrics:
    """One worker's place in the folder."""

    def __init__(self, metrics: Metrics, folder: Path) -> None:
        self._metrics = metrics
        self._folder = folder
        self._worker = str(os.getpid())

    async def text(self) -> bytes:
        """Return the metrics of all workers in Prometheus' text format."""
        own = self._metrics.text()  # here, since what it reads changes here
        return await asyncio.to_thread(self._merge, own)

    async def publish(self) -> None:
        """Leave this worker's metrics for the others, until the task is cancelled."""
        path = self._folder / f"{self._worker}{SUFFIX}"
        try:
            while True:
                own = self._metrics.text()
                with suppress(OSError):
                    await asyncio.to_thread(write_whole, path, own)
                await asyncio.sleep(PUBLISH_S)
        finally:
            path.unlink(missing_ok=True)

    def _merge(self, own: bytes) -> bytes:
        texts = {self._worker: own}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            with suppress(OSError):
                if path.stem != self._worker and time.time() - path.stat().st_mtime < FRESH_S:
                    texts[path.stem] = path.read_bytes()
        return merge_texts({worker: text.decode() for worker, text in texts.items()}).encode()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that others see whole or not at all."""
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def merge_texts(texts: Mapping[str, str]) -> str:
    """Return one text in Prometheus' format of several, with the label `worker` on each sample."""
    heads: dict[str, list[str]] = {}
    samples: defaultdict[str, list[str]] = defaultdict(list)
    for worker, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("#"):
                family = line.split(" ", 3)[2]
                head = heads.setdefault(family, [])
                if line not in head:
                    head.append(line)
            elif line:
                name, labels, rest = split_sample(line)
                own = f'worker="{worker}"'
                samples[family].append(f"{name}{{{own}{',' if labels else ''}{labels}}} {rest}")
    lines = [line for family, head in heads.items() for line in (*head, *samples[family])]
    return "\n".join(lines) + "\n"


def split_sample(line: str) -> tuple[str, str, str]:
    """Return a sample's name, what is between its braces, and its value."""
    name, brace, rest = line.partition("{")
    if not brace:
        name, _, value = line.partition(" ")
        return name, "", value
    labels, _, value = rest.rpartition("} ")
    return name, labels, value


@asynccontextmanager
async def share_metrics(metrics: Metrics, folder: Path | None) -> AsyncIterator[None]:
    """Let the metrics tell of all workers that leave theirs in `folder`; None: of this one."""
    if folder is None:
        yield
        return
    shared = SharedMetrics(metrics, folder)
    metrics.tell = shared.text
    publishing = asyncio.create_task(shared.publish())
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
