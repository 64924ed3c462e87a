"""The command `tamvt-model sweep`: exported graphs with other memories and clips, untrained.

The paper's tables A2b (N, memory size) and A2c (L, clip length), on the graphs as they are served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import onnxruntime
from cyclopts import Parameter

from model.commands.machine import processor
from model.commands.options import Data, Graphs, Model, Numbers, Output, choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import MAX_CAPACITY
from model.data.errors import DataError
from model.data.layouts import VideoSet
from model.data.video import Video
from model.evaluation.results import NOT_GIVEN, Row, add_row, read_rows, today, track_and_score
from model.evaluation.runtime import GraphRuntime
from model.training import checkpoints
from model.training.errors import SettingsError

ROWS_FILE, TABLE_FILE = "sweep.csv", "sweep.md"


class SweepPoint(NamedTuple):
    """One setting of the loop."""

    memory_size: int
    clip_length: int


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class SweepArguments:
    """The options of `tamvt-model sweep`."""

    graphs: Graphs = SHIPPED_WEIGHTS
    output: Output
    data: Data = None
    split: Annotated[str, Parameter(help="list of videos")] = "dev"
    memory_sizes: Annotated[Numbers, Parameter(help="N")] = tuple(range(1, 13))
    clip_lengths: Annotated[Numbers, Parameter(help="L")] = (1, 2, 3, 4)
    threads: Annotated[int, Parameter(help="0: one a core")] = 0


def run(model: Model = "tamvt-mobile", /, *, args: SweepArguments) -> int:
    """Measure what is not measured yet, and print both tables."""
    if not (args.graphs / f"{model}_segment.onnx").is_file():
        raise DataError(f"there are no graphs of {model} in {args.graphs}")
    check_sizes(args.memory_sizes, args.clip_lengths)
    data = choose_data_folder(args.data)
    videos = VideoSet("shared", data / "video", args.split).open()
    runtime = GraphRuntime(args.graphs, model, threads=args.threads)
    with checkpoints.locked(args.output):
        text = sweep(runtime, videos, args.memory_sizes, args.clip_lengths, args.output)
    print(text)
    return 0


def check_sizes(memory_sizes: Sequence[int], clip_lengths: Sequence[int]) -> None:
    """Raise SettingsError for a setting that no loop takes."""
    if not all(1 <= size <= MAX_CAPACITY for size in memory_sizes):
        raise SettingsError(f"memory sizes {memory_sizes} are not in 1..{MAX_CAPACITY}")
    if not all(length >= 1 for length in clip_lengths):
        raise SettingsError(f"clip lengths {clip_lengths} are not positive")


def sweep(
    runtime: GraphRuntime,
    videos: Sequence[Video],
    memory_sizes: Sequence[int],
    clip_lengths: Sequence[int],
    folder: Path,
) -> str:
    """Return both tables, which are also written to `folder`.

    The one varies N with the model's own L, the other L with its own N. What `sweep.csv` holds of
    the same weights is not measured again.
    """
    spec = runtime.spec
    weights = spec.weights_sha256[:12]
    by_size = [SweepPoint(size, spec.clip_length) for size in memory_sizes]
    by_length = [SweepPoint(spec.memory_size, length) for length in clip_lengths]
    rows = read_rows(folder / ROWS_FILE)
    for point in dict.fromkeys((*by_size, *by_length)):
        if found(rows, weights, point) is None:
            print(f"N = {point.memory_size}, L = {point.clip_length}", flush=True)
            result = track_and_score(runtime, videos, **point._asdict())
            row = {**key(weights, point), **result.cells(), "date": today()}
            rows = add_row(folder / ROWS_FILE, row)
    where = f"{processor()}, ONNX Runtime {onnxruntime.__version__}, {today()}"
    text = (
        f"`{spec.name}` ({weights}), {len(videos)} videos; J and F in percent, frames a second of "
        f"the offline loop, decoding included ({where}).\n\n"
        f"{table(rows, weights, by_size, 'memory_size', 'N')}\n\n"
        f"{table(rows, weights, by_length, 'clip_length', 'L')}\n"
    )
    (folder / TABLE_FILE).write_text(text, encoding="utf-8")
    return text


def key(weights: str, point: SweepPoint) -> dict[str, str]:
    """Return what tells a measurement from the others, as in `sweep.csv`."""
    return {"weights": weights, **{name: str(value) for name, value in point._asdict().items()}}


def found(rows: Sequence[Row], weights: str, point: SweepPoint) -> Row | None:
    """Return the row of one measurement, if it is there."""
    return next((row for row in rows if key(weights, point).items() <= row.items()), None)


def table(
    rows: Sequence[Row], weights: str, points: Sequence[SweepPoint], varied: str, letter: str
) -> str:
    """Return a Markdown table with a line for each place."""
    paper = {"N": "A2b", "L": "A2c"}[letter]
    lines = [
        f"| {letter} | J | F | J&F | J_tr | frames/s | the paper's table {paper} |",
        "|---:|---:|---:|---:|---:|---:|---|",
    ]
    for point in points:
        row = found(rows, weights, point)
        if row is not None:
            cells = [f"{100 * float(row[name]):.1f}" for name in ("j", "f", "j_and_f", "j_tr")]
            rate = f"{float(row['frames_a_second']):.0f}"
            line = (str(getattr(point, varied)), *cells, rate, NOT_GIVEN)
            lines.append(f"| {' | '.join(line)} |")
    return "\n".join(lines)
