"""What `tamvt bench` measured: figures by name, as tables, as JSON, and beside those of before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

from service.errors import Misconfigured

TOLERANCE: Final = 0.1  # by which a figure may be worse than before


@dataclass(frozen=True, slots=True)
class BenchFigure:
    """One number, its unit, and whether more of it is better."""

    value: float
    unit: str
    better: Literal["more", "less"]

    def worse_by(self, before: BenchFigure) -> float:
        """Return by which share this is worse than `before`; negative if it is better."""
        if not self.value or not before.value:
            return 0.0
        ratio = self.value / before.value
        return (ratio if self.better == "less" else 1 / ratio) - 1


Figures = Mapping[str, BenchFigure]


def milliseconds(value: float) -> BenchFigure:
    return BenchFigure(round(value, 3), "ms", "less")


def share(value: float) -> BenchFigure:
    """Return a ratio that was measured in one run: it is compared across machines too."""
    return BenchFigure(round(value, 4), "", "more")


def write_figures(path: Path, figures: Figures, about: Mapping[str, str]) -> None:
    """Write figures and what they are of as JSON."""
    members = {name: asdict(each) for name, each in figures.items()}
    path.write_text(json.dumps({"about": dict(about), "figures": members}, indent=1) + "\n")


def read_figures(path: Path) -> dict[str, BenchFigure]:
    """Return what `write_figures` wrote; raise Misconfigured if it is something else."""
    try:
        members = json.loads(path.read_text(encoding="utf-8"))["figures"]
        return {name: BenchFigure(**each) for name, each in members.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{path} is not what `tamvt bench --json` writes: {error}") from error


def compare_figures(
    figures: Figures, before: Figures, *, tolerance: float = TOLERANCE
) -> tuple[str, Sequence[str]]:
    """Return a table of what both have, and the names of the figures that became worse.

    Times of different runs also differ by what else the machine did; ratios do less.
    """
    rows, worse = ["| figure | before | now | |", "|---|---:|---:|---|"], []
    for name, now in figures.items():
        if name not in before:
            continue
        by = now.worse_by(before[name])
        told = "worse" if by > tolerance else "better" if by < -tolerance else ""
        if by > tolerance:
            worse.append(name)
        unit = f" {now.unit}".rstrip()
        rows.append(f"| {name} | {before[name].value:g}{unit} | {now.value:g}{unit} | {told} |")
    return "\n".join(rows), worse
