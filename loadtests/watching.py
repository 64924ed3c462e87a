"""What runs beside a load test, second by second: throughput, memory, and whose processor it was.

Gateways, their Redis and the load's own programs are told apart by their command lines. What else
the machine computed on meanwhile is other work, which disturbs: it is told with every result.
"""

from __future__ import annotations

import os
import re
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from loadtests.figures import Row
from service.commands.process_figures import command_of, cpu_s, descendants, read_resident_mb
from service.commands.top_figures import read_scrape
from tamvt_client.addresses import credential

SAMPLED_S = 1.0
MOST_OTHER = 0.05  # of all processors
MOST_STOLEN = 0.02
GATEWAY = re.compile(r" serve( |$)")
REDIS = re.compile(r"(valkey|redis)-server")
COUNTED = {
    "frames": "tamvt_frames_total",
    "dropped": "tamvt_frames_dropped_total",
    "streams": "tamvt_streams_open",
}


@dataclass(frozen=True, slots=True)
class MachineTimes:
    """Seconds that all processors have computed, and that were another machine's, as we see it."""

    busy_s: float
    stolen_s: float

    @classmethod
    def now(cls) -> MachineTimes:
        """Read them from the kernel."""
        words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
        user, nice, system, _, _, irq, softirq, stolen = (int(word) for word in words[:8])
        tick = os.sysconf("SC_CLK_TCK")
        return cls((user + nice + system + irq + softirq) / tick, stolen / tick)


@dataclass(slots=True)
class LoadWatch:
    """The samples of one load test."""

    urls: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    key: str = ""  # that may read the metrics
    _cpu_s: dict[int, float] = field(default_factory=dict)

    def sample(self, begin_s: float, before_s: float, before: MachineTimes) -> None:
        """Add what happened since the last sample."""
        passed_s = time.perf_counter() - before_s
        used, resident_mb = self._measure_family()
        now, processors = MachineTimes.now(), len(os.sched_getaffinity(0))
        room_s = passed_s * processors
        other_s = max(0.0, now.busy_s - before.busy_s - sum(used.values()))
        self.rows.append(
            {
                "second": round(time.perf_counter() - begin_s, 2),
                **{f"{name} CPU": round(used[name] / room_s, 4) for name in PARTS},
                "other CPU": round(min(1.0, other_s / room_s), 4),
                "stolen": round((now.stolen_s - before.stolen_s) / room_s, 4),
                **{f"{name} MB": round(resident_mb[name], 1) for name in PARTS},
                **read_counters(self.urls, key=self.key),
            }
        )

    def _measure_family(self) -> tuple[defaultdict[str, float], defaultdict[str, float]]:
        """Return seconds computed since the last call, and megabytes in memory, by part."""
        used, resident_mb = defaultdict[str, float](float), defaultdict[str, float](float)
        for pid, part in classify_family().items():
            with suppress(OSError):  # it has ended
                total = cpu_s(pid)
                used[part] += total - self._cpu_s.get(pid, 0.0)
                self._cpu_s[pid] = total
                resident_mb[part] += read_resident_mb(pid)
        return used, resident_mb

    def mean(self, column: str) -> float:
        """Return the mean of a column; not a number without samples."""
        values = [float(str(row[column])) for row in self.rows if row.get(column) is not None]
        return statistics.fmean(values) if values else float("nan")

    def notices(self) -> list[str]:
        """Return sentences about what disturbed the test; none if nothing did."""
        found = []
        if (other := self.mean("other CPU")) > MOST_OTHER:
            found.append(f"disturbed: other work took {other:.0%} of the processors")
        if (stolen := self.mean("stolen")) > MOST_STOLEN:
            found.append(f"disturbed: other machines took {stolen:.0%} of the processors")
        return found


PARTS = ("gateway", "redis", "client")


def classify_family() -> dict[int, str]:
    """Return this program's family: which processes are gateways, which Redis, which the load."""
    found = {os.getpid(): "client"}
    commands = {pid: command_of(pid) for pid in descendants(os.getpid())}
    found |= dict.fromkeys(commands, "client")
    for pid, command in commands.items():
        if GATEWAY.search(command):
            found |= dict.fromkeys([pid, *descendants(pid)], "gateway")
    found |= {pid: "redis" for pid, command in commands.items() if REDIS.search(command)}
    return {pid: part for pid, part in found.items() if pid in commands or pid == os.getpid()}


def read_counters(urls: Sequence[str], *, key: str = "") -> dict[str, float | None]:
    """Return the sums of what gateways count, and the clips they ran at once on average.

    Return nothing of gateways that do not tell.
    """
    texts = []
    for url in urls:
        with suppress(httpx.HTTPError):
            answer = httpx.get(
                f"{url}/metrics", headers=credential(key), timeout=5, trust_env=False
            )
            texts.append(answer.raise_for_status().text)
    try:
        scrape = read_scrape(texts, at_s=0.0) if texts else None
    except ValueError:  # of another program
        scrape = None
    if scrape is None:
        return {}
    clips = scrape.total("tamvt_batch_size_count")
    batch = scrape.total("tamvt_batch_size_sum") / clips if clips else None
    return {name: scrape.total(metric) for name, metric in COUNTED.items()} | {"batch": batch}


@contextmanager
def watching(urls: Sequence[str] = (), *, key: str = "") -> Iterator[LoadWatch]:
    """Sample once a second, on a thread, until the block is left."""
    watch, ended = LoadWatch(urls, key=key), threading.Event()

    def run() -> None:
        begin_s = before_s = time.perf_counter()
        before = MachineTimes.now()
        watch._measure_family()
        while not ended.wait(SAMPLED_S):
            at_s, at = time.perf_counter(), MachineTimes.now()
            watch.sample(begin_s, before_s, before)
            before_s, before = at_s, at

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watch
    finally:
        ended.set()
        thread.join()
