"""The command `tamvt-model yardstick`: scores on clips that are hard in one way each."""

import argparse
import os
import sys
from pathlib import Path

from tqdm import tqdm

from model.commands.machine import processor
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tamvt-model yardstick`."""
    parser.add_argument("model", nargs="?", default="tamvt-mobile", help="name of the graphs")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS, help="folder of the graphs")
    parser.add_argument("-o", "--output", type=Path, help="write the scores of every clip there")
    parser.add_argument("--data", type=Path, help="data (default: TAMVT_DATA, else data)")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="which sets")
    parser.add_argument("--clip-length", type=int, help="L (default: the model's own)")
    parser.add_argument("--memory-size", type=int, help="N (default: the model's own)")
    parser.add_argument("--threads", type=int, default=0, help="0: one a core")
    parser.add_argument(
        "--baseline",
        type=Path,
        default=BASELINE,
        help="scores to compare with, as -o writes them (default: those of the first model)",
    )


def run(args: argparse.Namespace) -> int:
    """Score every clip, and print the table; 2 where it cannot begin."""
    try:
        if not (args.graphs / f"{args.model}_segment.onnx").is_file():
            raise DataError(f"there are no graphs of {args.model} in {args.graphs}")
        stock = open_stock(args.data or Path(os.environ.get("TAMVT_DATA", "data")))
    except DataError as error:
        print(f"tamvt-model yardstick: {error}", file=sys.stderr)
        return 2
    runtime = GraphRuntime(args.graphs, args.model, threads=args.threads)
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
    print(f"\n{args.model}, weights {weights}, {processor()}, {today()}")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_scores(args.output, scores, about={"model": args.model, "weights": weights})
    return 0
