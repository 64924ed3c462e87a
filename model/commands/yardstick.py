"""The command `tamvt-model yardstick`: scores on clips that are hard in one way each."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from tqdm import tqdm

from model.commands.machine import processor
from model.commands.options import (
    SEVERAL,
    SPACED,
    Data,
    Graphs,
    Model,
    allow_only,
    choose_data_folder,
)
from model.core.contract import SHIPPED_WEIGHTS
from model.data.errors import DataError
from model.data.yardstick import SETS, make_clips, open_stock
from model.evaluation.results import today
from model.evaluation.runtime import GraphRuntime
from model.evaluation.yardstick import (
    read_scores,
    score_clip,
    write_scores,
    yardstick_table,
)

BASELINE = SHIPPED_WEIGHTS / "yardstick_460bd98.json"


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class YardstickArguments:
    """The options of `tamvt-model yardstick`."""

    graphs: Graphs = SHIPPED_WEIGHTS
    output: Annotated[
        Path | None,
        Parameter(name=("-o", "--output"), help="write the scores of every clip there"),
    ] = None
    data: Data = None
    sets: Annotated[
        tuple[str, ...], SEVERAL, SPACED, Parameter(validator=allow_only(SETS), help="which sets")
    ] = tuple(SETS)
    clip_length: Annotated[int | None, Parameter(help="L (default: the model's own)")] = None
    memory_size: Annotated[int | None, Parameter(help="N (default: the model's own)")] = None
    threads: Annotated[int, Parameter(help="0: one a core")] = 0
    baseline: Annotated[
        Path,
        Parameter(
            help="scores to compare with, as -o writes them",
            show_default=lambda _: "those of the first model",
        ),
    ] = BASELINE


BY_DEFAULT = YardstickArguments()


def run(model: Model = "tamvt-mobile", /, *, args: YardstickArguments = BY_DEFAULT) -> int:
    """Score every clip, and print the table; 2 where it cannot begin."""
    try:
        if not (args.graphs / f"{model}_segment.onnx").is_file():
            raise DataError(f"there are no graphs of {model} in {args.graphs}")
        stock = open_stock(choose_data_folder(args.data))
    except DataError as error:
        print(f"tamvt-model yardstick: {error}", file=sys.stderr)
        return 2
    runtime = GraphRuntime(args.graphs, model, threads=args.threads)
    scores = {
        name: [
            score_clip(runtime, clip, clip_length=args.clip_length, memory_size=args.memory_size)
            for clip in tqdm(make_clips(stock, name), desc=name, unit="clip", leave=False)
        ]
        for name in args.sets
    }
    baseline = read_scores(args.baseline) if args.baseline.is_file() else None
    weights = runtime.spec.weights_sha256[:12]
    print(yardstick_table(scores, baseline))
    print(f"\n{model}, weights {weights}, {processor()}, {today()}")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_scores(args.output, scores, about={"model": model, "weights": weights})
    return 0
