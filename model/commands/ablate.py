"""The command `tamvt-model ablate`: short trainings that differ in one thing each, and their table.

Every (row, seed) has its folder; one that is done is not trained again, one that was interrupted
goes on from its checkpoint. Scores are of the averaged weights, on PyTorch, by the offline loop.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from cyclopts import Parameter

from model.commands.machine import describe_machine
from model.commands.options import Data, Numbers, Output, Words, choose_data_folder
from model.commands.train import STOPPED, find_start
from model.data.layouts import VideoSet
from model.data.video import Video
from model.evaluation.results import NOT_GIVEN, Row, add_row, read_rows, today, track_and_score
from model.evaluation.tables import write_tables
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import TrackingNetwork
from model.networks.registry import build_network, find_config
from model.training import checkpoints
from model.training.checkpoints import load_strictly
from model.training.errors import SettingsError
from model.training.recipes import ABLATION_ROWS, ABLATIONS, TrainConfig, ablation
from model.training.trainer import Trainer

ROWS_FILE, TABLE_FILE = "rows.csv", "table.md"
MEMORY_SIZE = 9  # the published one; the shipped model has its own
BASE = "full"


@dataclass(frozen=True, slots=True)
class Run:
    """One training of the table."""

    row: str
    seed: int
    config: TrainConfig

    @property
    def key(self) -> dict[str, str]:
        """Return what tells it from the others, as in `rows.csv`."""
        return {"row": self.row, "seed": str(self.seed), "steps": str(self.config.steps)}

    @property
    def folder(self) -> Path:
        """Return its own folder, below that of all."""
        return Path(self.row) / f"seed{self.seed}-steps{self.config.steps}"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class AblateArguments:
    """The options of `tamvt-model ablate`."""

    output: Output
    rows: Annotated[Words, Parameter(help=f"of {', '.join(ABLATION_ROWS)}")] = tuple(ABLATIONS)
    seeds: Numbers = (1, 2)
    steps: Annotated[int | None, Parameter(help="steps of every row (the recipe's)")] = None
    data: Data = None
    workers: Annotated[int, Parameter(help="processes that make samples")] = 1
    threads: Annotated[int | None, Parameter(help="of PyTorch (default: one a core)")] = None


def run(*, args: AblateArguments) -> int:
    """Train and score what is not done yet, and print the table.

    0 when done, 1 for a bad loss, 2 where it cannot begin, 143 if told to stop.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    data = choose_data_folder(args.data)
    runs = plan_runs(data, args.rows, args.seeds, args.steps)
    videos = VideoSet("shared", data / "video", "dev").open()
    with checkpoints.locked(args.output):
        return ablate(runs, videos, args.output, workers=args.workers)


def plan_runs(
    data: Path, rows: Sequence[str], seeds: Sequence[int], steps: int | None = None
) -> list[Run]:
    """Return the trainings, one seed of all rows after the other.

    Raise SettingsError for an unknown row.
    """
    unknown = sorted(set(rows) - set(ABLATION_ROWS))
    if unknown:
        raise SettingsError(f"no row {', '.join(unknown)}: there are {', '.join(ABLATION_ROWS)}")
    runs = []
    for seed in seeds:
        for row in rows:
            config = ablation(data, row)
            config = replace(config, samples=replace(config.samples, seed=seed))
            if steps is not None:
                config = replace(config, steps=steps, warm_up=min(config.warm_up, steps // 10))
            runs.append(Run(row, seed, config))
    return runs


def ablate(runs: Sequence[Run], videos: Sequence[Video], folder: Path, *, workers: int) -> int:
    """Train and score the rows that are not done; return the exit status.

    The table is written anew after each.
    """
    rows = read_rows(folder / ROWS_FILE)
    for each in runs:
        if any(each.key.items() <= row.items() for row in rows):
            continue
        print(f"{each.row}, seed {each.seed}: {each.config.steps} steps", flush=True)
        trained = train(each, folder / each.folder, workers=workers)
        if trained is None:
            print("stopped; the same command goes on")
            return STOPPED
        network = rebuild(each.config, trained)
        runtime = TorchRuntime(prepare_serving(network), describe(network, "0" * 64))
        result = track_and_score(runtime, videos)
        write_tables(trained.parent, result.scores)
        rows = add_row(folder / ROWS_FILE, {**each.key, **result.cells(), "date": today()})
        write_table(rows, runs, len(videos), folder)
    print(write_table(rows, runs, len(videos), folder))
    return 0


def train(run: Run, folder: Path, *, workers: int) -> Path | None:
    """Return the last checkpoint of a training, gone on with where there is one.

    None if told to stop.
    """
    with checkpoints.locked(folder):
        trainer = Trainer(run.config, folder)
        last = folder / checkpoints.LAST
        if find_start(folder, last if last.exists() else None) is not None:
            trainer.resume(last)
        trainer.run(workers)
    print(trainer.speed, flush=True)
    return last if trainer.step >= run.config.steps else None


def rebuild(config: TrainConfig, checkpoint: Path) -> TrackingNetwork:
    """Return the network of a checkpoint's averaged weights.

    It knows the largest memory that was trained, so that larger ones are interpolated.
    """
    network = build_network(
        config.build,
        trained_memory_size=count_trained_entries(config),
        memory_size=MEMORY_SIZE,
    )
    state = checkpoints.read(checkpoint, torch.device("cpu"))
    load_strictly(network, state["model"], checkpoint)
    return network


def count_trained_entries(config: TrainConfig) -> int:
    """Return the most entries that a clip of this training reads: one for each clip before it."""
    return -(-(config.samples.frames - 1) // find_config(config.build).clip_length)


def write_table(rows: Sequence[Row], runs: Sequence[Run], videos: int, folder: Path) -> str:
    """Write `table.md`, of all that is done of as many steps, and return it."""
    config = runs[0].config
    done = [row for row in rows if row["steps"] == str(config.steps)]
    clips = config.samples
    text = (
        f"{config.steps} steps of {clips.batch} clips of {clips.frames} frames at "
        f"{clips.crop}x{clips.crop} each, averaged weights; J and F in percent on {videos} videos "
        f"of `dev`, means over the seeds "
        f"({describe_machine('cpu', threads=torch.get_num_threads())}).\n"
        f"\n{table(done)}\n"
    )
    (folder / TABLE_FILE).write_text(text, encoding="utf-8")
    return text


def table(rows: Sequence[Row]) -> str:
    """Return a line for each row in the order of the recipes: means, spread, difference to `full`.

    The spread is the largest J&F of a row's seeds less the smallest. Where the larger of the two
    rows' spreads is above the difference, the row is not separable from `full`.
    """
    found = {name: [row for row in rows if row["row"] == name] for name in ABLATION_ROWS}
    lines = [
        "| row | seeds | J | F | J&F | spread | to `full` | | the paper, on VOST |",
        "|---|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for name, own in found.items():
        if own:
            cells = [f"{average_measure(own, key):.1f}" for key in ("j", "f", "j_and_f")]
            seeds = ", ".join(row["seed"] for row in own)
            apart = f"{spread(own):.1f}" if len(own) > 1 else ""
            compared = (*compare_with_base(own, found[BASE]),) if name != BASE else ("", "")
            line = (f"`{name}`", seeds, *cells, apart, *compared, NOT_GIVEN)
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)


def compare_with_base(own: Sequence[Row], base: Sequence[Row]) -> tuple[str, str]:
    """Return the difference of J&F to `base`, and what it is worth."""
    if not base:
        return "", f"`{BASE}` is not done"
    difference = average_measure(own, "j_and_f") - average_measure(base, "j_and_f")
    if min(len(own), len(base)) < 2:
        return f"{difference:+.1f}", "one seed tells no spread"
    within = max(spread(own), spread(base)) > abs(difference)
    return f"{difference:+.1f}", "not separable at our scale" if within else ""


def average_measure(rows: Sequence[Mapping[str, str]], measure: str) -> float:
    """Return the mean of a measure, in percent."""
    return 100 * sum(float(row[measure]) for row in rows) / len(rows)


def spread(rows: Sequence[Mapping[str, str]]) -> float:
    """Return the largest J&F less the smallest, in percent."""
    values = [100 * float(row["j_and_f"]) for row in rows]
    return max(values) - min(values)
