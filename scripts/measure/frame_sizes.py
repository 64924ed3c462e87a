"""What larger frames bring the graphs as they are: J by the short side that the model sees.

    python -m scripts.measure.frame_sizes [--graphs FOLDER] [--sides 256 384] [--sets dev tiny]

Tracks `dev` and sets of the yardstick at each short side by the offline loop, whatever the width of
the objects, and prints J with the gain over the first side (paired bootstrap over clips), and how
wide the thinnest object of each clip is at the first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.commands.machine import processor
from model.core.contract import SHIPPED_WEIGHTS
from model.core.masks import split_objects
from model.core.session_size import measure_least_width
from model.data.yardstick import SETS, HardClip
from model.evaluation.results import today
from model.evaluation.runtime import GraphRuntime
from model.evaluation.yardstick import paired_interval, score_clip
from scripts.measure.memory_policies import DEV, yield_clips

MOST_SETS = (DEV, "twins", "returning", "dark", "tiny", "thin", "many", "held-out")


def describe_widths(clips: Sequence[HardClip], side: int) -> str:
    """Return how wide the thinnest object of each clip is, in pixels at a short side: range."""
    widths = [
        measure_least_width(split_objects(clip.labels[0])[1]) * side / min(clip.labels[0].shape)
        for clip in clips
    ]
    return f"{min(widths):.0f} to {max(widths):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="J by the size of the model's frames")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--model", default="tamvt-mobile")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 384, 512])
    parser.add_argument("--sets", nargs="+", choices=(DEV, *SETS), default=list(MOST_SETS))
    args = parser.parse_args()
    runtime = GraphRuntime(args.graphs, args.model, threads=1)
    own, first = runtime.spec, args.sides[0]
    print(f"| set | px wide at {first} | {' | '.join(map(str, args.sides))} |")
    print("|---|---|" + "---|" * len(args.sides))
    for name in args.sets:
        clips = list(yield_clips(name))
        cells: list[str] = []
        begin: list[float] = []
        for side in args.sides:
            runtime.spec = replace(own, short_side=side, fine_short_sides=())
            found = [score_clip(runtime, clip).j for clip in clips]
            cell, begin = f"{100 * np.mean(found):.1f}", begin or found
            if side != first:
                gain, low, high = (100 * value for value in paired_interval(begin, found))
                cell += f" ({gain:+.1f}: {low:+.1f} to {high:+.1f})"
            cells.append(cell)
        print(f"| {name} | {describe_widths(clips, first)} | {' | '.join(cells)} |", flush=True)
    print(f"\n{own.name}, weights {own.weights_sha256[:12]}, {processor()}, {today()}")


if __name__ == "__main__":
    main()
