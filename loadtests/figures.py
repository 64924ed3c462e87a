"""What load tests tell: percentiles, tables, CSV files, and the machine it was."""

from __future__ import annotations

import csv
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from pathlib import Path

from service.commands.steady_session import processor

ROOT = Path(__file__).resolve().parents[1]
Row = Mapping[str, object]  # a column's name -> its value


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


def latency_of(milliseconds: Sequence[float]) -> Latency:
    """Return the percentiles; not a number where there is nothing."""
    return Latency(*(percentile(milliseconds, share) for share in (0.5, 0.95, 0.99, 1.0)))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, ceil(len(values) * share) - 1)]


def write_table(rows: Sequence[Row]) -> str:
    """Return rows as a table in Markdown, under the names of the first one's columns."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    lines = [names, ["---"] * len(names)]
    lines += [[_text(row.get(name, "")) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as a CSV file, under the names of all their columns."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def describe_run() -> dict[str, str]:
    """Return commit, machine and date: what every figure is told with."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        commit = done.stdout.strip() or "unknown"
    except OSError:  # no git here
        commit = "unknown"
    memory_gb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return {
        "commit": commit,
        "machine": f"{len(os.sched_getaffinity(0))} processors, {processor()}, "
        f"{memory_gb:.0f} GB, {platform.system()} {platform.release()}",
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }


def _text(value: object) -> str:
    if isinstance(value, float):
        return "-" if value != value else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
