"""The command `tamvt-model data`: how fast training clips are made, and what they hold."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from model.data.measure import measure, write_sheet
from model.training.recipes import RECIPES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tamvt-model data`."""
    parser.add_argument("recipe", help="whose clips, as `tamvt-model train` names it")
    parser.add_argument("-o", "--output", type=Path, help="draw a sheet of clips there, a PNG")
    parser.add_argument("--data", type=Path, help="training data (default: TAMVT_DATA, else data)")
    parser.add_argument("--batches", type=int, default=30, help="how many are made (default: 30)")
    parser.add_argument("--frames", type=int, help="frames of a clip, the reference included")
    parser.add_argument("--clips", type=int, default=16, help="on the sheet (default: 16)")


def run(args: argparse.Namespace) -> int:
    """Return the exit status.

    Prints the measurement, and writes the sheet where one is asked for.
    """
    if args.recipe not in RECIPES:
        print(f"tamvt-model: no recipe {args.recipe}, but {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    if min(args.batches, args.clips) < 1:
        print("tamvt-model: --batches and --clips are 1 or more", file=sys.stderr)
        return 2
    samples = RECIPES[args.recipe](args.data or Path(os.environ.get("TAMVT_DATA", "data"))).samples
    config = samples if args.frames is None else replace(samples, frames=args.frames)
    print(measure(config, args.batches).text())
    if args.output is not None:
        write_sheet(args.output, config, samples=args.clips)
        print(f"wrote {args.output}")
    return 0
