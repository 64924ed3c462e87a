"""Pictures of load tests: latency against sessions, and what went on second by second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl

from loadtests.figures import Row

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

COLORS = {"p50 ms": "#2f7d73", "p95 ms": "#c98f2b", "p99 ms": "#b5564a"}
LIVE_MS = 100.0


def plot_latency(path: Path, tries: Mapping[str, Sequence[Row]], *, about: str) -> None:
    """Draw percentiles against sessions, a panel for each case; the longest try of each counts."""
    figure, panels = plt.subplots(
        1, max(1, len(tries)), figsize=(4 * max(1, len(tries)), 3.6), squeeze=False, sharey=True
    )
    for axes, (name, rows) in zip(panels[0], tries.items(), strict=False):
        by_length = sorted(rows, key=lambda row: _number(row, "seconds"))
        longest = {_number(row, "sessions"): row for row in by_length}
        ordered = [longest[count] for count in sorted(longest)]
        for column, color in COLORS.items():
            xs, ys = _points(ordered, "sessions", column)
            axes.plot(xs, ys, marker="o", color=color, label=column.removesuffix(" ms"))
        axes.axhline(LIVE_MS, color="#5b6866", linewidth=0.8, linestyle="--")
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("sessions")
    panels[0][0].set_ylabel("ms from due to masks")
    panels[0][0].legend(fontsize=8)
    _save(figure, path, about)


def plot_over_time(path: Path, parts: Mapping[str, Sequence[Row]], *, about: str) -> None:
    """Draw throughput, clips at once and memory over time, one scenario after the other."""
    figure, panels = plt.subplots(3, 1, figsize=(10, 7), sharex=True)
    begin = 0.0
    for name, rows in parts.items():
        seconds = [begin + _number(row, "second") for row in rows]
        if not rows:
            continue
        _draw(panels[0], seconds, rates_of(rows, "frames"), "#2f7d73")
        _draw(panels[1], seconds, [row.get("batch") for row in rows], "#6c7fb5")
        _draw(panels[2], seconds, [row.get("gateway MB") for row in rows], "#c98f2b")
        _draw(panels[2], seconds, [row.get("redis MB") for row in rows], "#b5564a")
        for axes in panels:
            axes.axvline(begin, color="#a9b5b2", linewidth=0.8)
        panels[0].text(begin, 1.02, name, transform=panels[0].get_xaxis_transform(), fontsize=7)
        begin = seconds[-1] + 1
    panels[0].set_ylabel("frames/s")
    panels[1].set_ylabel("clips at once, mean")
    panels[2].set_ylabel("MB: gateway, Redis (red)")
    panels[2].set_xlabel("seconds")
    _save(figure, path, about)


@dataclass(frozen=True, slots=True)
class QualityPoint:
    """A peer's milliseconds a frame and its quality, which others published or we measured."""

    name: str
    ms: float
    quality: float
    published: bool


def plot_quality(path: Path, points: Sequence[QualityPoint], *, about: str) -> None:
    """Draw quality against milliseconds a frame; what others published is hollow."""
    figure, axes = plt.subplots(figsize=(7, 4.5))
    for point, marker in zip(points, cycle("osD^v"), strict=False):
        color = "#c98f2b" if point.published else "#2f7d73"
        inside = "none" if point.published else color
        where = ([point.ms], [point.quality])
        axes.scatter(
            *where, edgecolors=color, facecolors=inside, s=60, marker=marker, label=point.name
        )
    axes.legend(loc="center left", fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.margins(x=0.4, y=0.2)
    axes.set_xlabel("ms a frame on this processor, one object")
    axes.set_ylabel("J&F")
    axes.set_title(
        "filled: measured on dev; hollow: as published, DAVIS 2017 val (other videos)", fontsize=9
    )
    _save(figure, path, about)


def rates_of(rows: Sequence[Row], column: str) -> list[float | None]:
    """Return how much a counter grew a second, None for the first sample and after a restart."""
    rates: list[float | None] = [None] if rows else []
    for before, now in pairwise(rows):
        if before.get(column) is None or now.get(column) is None:
            rates.append(None)
            continue
        grown = _number(now, column) - _number(before, column)
        passed_s = _number(now, "second") - _number(before, "second")
        rates.append(grown / passed_s if grown >= 0 and passed_s > 0 else None)
    return rates


def _points(rows: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    found = [(_number(row, x), _number(row, y)) for row in rows]
    known = [(x, y) for x, y in found if y == y]
    return [x for x, _ in known], [y for _, y in known]


def _number(row: Row, column: str) -> float:
    return float(str(row[column]))


def _draw(axes: Axes, xs: Sequence[float], ys: Sequence[Any], color: str) -> None:
    known = [(x, float(y)) for x, y in zip(xs, ys, strict=True) if y is not None]
    axes.plot([x for x, _ in known], [y for _, y in known], color=color, linewidth=1.2)


def _save(figure: Any, path: Path, about: str) -> None:
    figure.text(0.01, 0.005, about, fontsize=6, color="#5b6866")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path)
    plt.close(figure)
