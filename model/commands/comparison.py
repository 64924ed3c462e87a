"""Checkpoints as they are, without an export: their models, and their scores side by side."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from model.evaluation.scoring import ObjectScore
from model.evaluation.tables import average_measures, group_by_subset, group_by_video
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.registry import NETWORKS, build_network
from model.networks.weights import read_loop
from model.training import checkpoints
from model.training.checkpoints import load_strictly
from model.training.errors import CheckpointError

SHOWN = {"J": "j", "F": "f", "J&F": "j_and_f"}
CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint to score: a short name that no other has, and the step it was written at."""

    name: str
    path: Path
    step: int
    runtime: TorchRuntime


def read_candidate(name: str, path: Path, *, raw: bool) -> Candidate:
    """Return the model of a checkpoint, as it would be exported; of averaged weights unless `raw`.

    Raise CheckpointError where it is broken, of no build that there is, or of other shapes than its
    build's.
    """
    part = "raw" if raw else "model"
    state = checkpoints.read(path, CPU, needed=("build", "step", part))
    if state["build"] not in NETWORKS:
        raise CheckpointError(f"{path} is of {state['build']!r}; there are {', '.join(NETWORKS)}")
    model = build_network(state["build"], **read_loop(state))
    load_strictly(model, state[part], path)
    spec = describe(model, "0" * 64)
    return Candidate(name, path, int(state["step"]), TorchRuntime(prepare_serving(model), spec))


def shorten_names(paths: Sequence[Path]) -> dict[str, Path]:
    """Return the paths by what tells them apart: `step1000`, or `seed1/last` and `seed2/last`."""
    forms: tuple[Callable[[Path], str], ...] = (
        lambda path: path.stem,
        lambda path: f"{path.resolve().parent.name}/{path.stem}",
    )
    for form in forms:
        named = {form(path): path for path in paths}
        if len(named) == len(paths):
            return named
    raise CheckpointError("two of the checkpoints have the same name in folders of the same name")


def spread_table(scores: Mapping[str, Sequence[ObjectScore]]) -> str:
    """Return J, F and J&F of every video by checkpoint, in percent, with mean and spread of J&F.

    A Markdown table, and below it the means over all objects: mean over the checkpoints, largest
    less smallest, and the sample standard deviation.
    """
    several = len(scores) > 1
    heads = [*scores, *(("mean", "max - min", "sd") if several else ())]
    lines = [f"| J / F / J&F | {' | '.join(heads)} |", "|---|" + "---:|" * len(heads)]
    groups = [group_by_row(each) for each in scores.values()]
    for row in groups[0]:
        means = [average_measures(group[row]) for group in groups]
        cells = [" / ".join(f"{100 * mean[name]:.1f}" for name in SHOWN.values()) for mean in means]
        if several:
            spread = measure_spread([mean["j_and_f"] for mean in means])
            cells += [f"{100 * value:.1f}" for value in spread]
        lines.append(f"| {row} | {' | '.join(cells)} |")
    if several:
        lines += ["", *list_overall([average_measures(each) for each in scores.values()])]
    return "\n".join(lines)


def group_by_row(scores: Sequence[ObjectScore]) -> dict[str, Sequence[ObjectScore]]:
    """Return the objects of each row: every video, all, and every subset."""
    subsets = {f"*{name}*": group for name, group in group_by_subset(scores).items()}
    return {**group_by_video(scores), "**all**": scores, **subsets}


def measure_spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, largest less smallest, and sample standard deviation of at least two values."""
    return statistics.fmean(values), max(values) - min(values), statistics.stdev(values)


def list_overall(means: Sequence[Mapping[str, float]]) -> list[str]:
    """Return a line for each measure over all objects."""
    lines = []
    for name, key in SHOWN.items():
        mean, reach, deviation = (
            100 * value for value in measure_spread([each[key] for each in means])
        )
        lines.append(
            f"- {name} of {len(means)} checkpoints: mean {mean:.1f}, max - min {reach:.1f}, "
            f"sd {deviation:.2f}"
        )
    return lines
