"""What several sessions gain in one run of the graph, beside one run for each, in turns.

    python -m scripts.measure.batched_sessions [--sessions 2 4] [--threads 1 2] [--clip-length 1 2]

Banks are full and lie apart, as in the embedded engine: joining them is part of the run of all.
Medians of the ratios of neighboring runs, which another load of the machine changes little.
Decision 87 has what was found.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from service.commands.steady_session import SampleFootage, processor, scale_sample_footage
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.runtimes import open_vino
from service.server.malloc import keep_large_blocks

SIZE = (256, 448)
WARM_UPS = 4
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class BatchGain:
    """Median milliseconds of one run for each session and of one run of all, and their ratio."""

    apart_ms: float
    together_ms: float
    times: float  # faster, the median of the rounds
    cpu_times: float


def fill_session(
    graphs: Graphs, footage: SampleFootage, *, number: int, objects: int, clip_length: int
) -> Inputs:
    """Return what `segment` takes for one session whose entries are five frames of the sample."""
    spec, run, masks = graphs.spec, Inference(), footage.masks(objects)
    first = 10 * number
    entries = [
        run(graphs.memorize, {"frame": footage.frames[first + k][None], "masks": masks[None]})
        for k in range(spec.memory_size)
    ]
    last = first + spec.memory_size
    return {
        "frames": footage.frames[last : last + clip_length][None],
        **{t.name: np.stack([each[t.name] for each in entries], axis=1) for t in spec.bank},
        "age": np.arange(spec.memory_size - 1, -1, -1, dtype=np.int32)[None],
        "entry_valid": np.ones((1, objects, spec.memory_size), np.bool_),
    }


def measure(graphs: Graphs, sessions: Sequence[Inputs], *, rounds: int) -> BatchGain:
    """Run the sessions apart and together in turns; raise SystemExit if masks differ."""

    def apart() -> list[NDArray[np.uint8]]:
        return [graphs.segment.run(inputs, Inference())["masks"] for inputs in sessions]

    def together() -> list[NDArray[np.uint8]]:
        joined = {
            name: np.concatenate([inputs[name] for inputs in sessions]) for name in sessions[0]
        }
        return list(graphs.segment.run(joined, Inference())["masks"][:, None])

    for _ in range(WARM_UPS):
        for mine, other in zip(apart(), together(), strict=True):
            changed = ((mine >= 128) != (other >= 128)).mean()
            if changed > 0.001:
                raise SystemExit(f"{100 * changed:.2f} % of the pixels are others in a batch")
    times = [(time_run(apart), time_run(together)) for _ in range(rounds)]
    ratios = [(one[0] / all_[0], one[1] / all_[1]) for one, all_ in times]
    return BatchGain(
        statistics.median(one[0] for one, _ in times),
        statistics.median(all_[0] for _, all_ in times),
        statistics.median(wall for wall, _ in ratios),
        statistics.median(cpu for _, cpu in ratios),
    )


def time_run(run: Callable[[], object]) -> tuple[float, float]:
    """Return the milliseconds on the clock and of the process."""
    begin, begin_cpu = time.perf_counter(), time.process_time()
    run()
    return 1000 * (time.perf_counter() - begin), 1000 * (time.process_time() - begin_cpu)


def main() -> None:
    """Print a row for each runtime, number of threads, clip length, objects and batch."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, default=SHIPPED_WEIGHTS)
    parser.add_argument("--model", default="tamvt-mobile")
    parser.add_argument("--sessions", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--clip-length", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    keep_large_blocks()
    print(f"{processor()}, {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f}")
    print("| runtime | threads | L | sessions | apart, ms | together, ms | times faster | by CPU |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    footage = scale_sample_footage(SIZE)
    for threads in args.threads:
        opened = open_graphs(args.weights, args.model, threads=threads)
        compiled = opened.on(open_vino(precision="bf16", threads=threads, files=None), args.weights)
        for graphs in (opened, compiled):
            for length in args.clip_length:
                filled = [
                    fill_session(
                        opened, footage, number=k, objects=args.objects, clip_length=length
                    )
                    for k in range(max(args.sessions))
                ]
                for count in args.sessions:
                    gain = measure(graphs, filled[:count], rounds=args.rounds)
                    print(
                        f"| {graphs.runtime} | {threads} | {length} | {count} "
                        f"| {gain.apart_ms:.1f} | {gain.together_ms:.1f} | {gain.times:.2f} "
                        f"| {gain.cpu_times:.2f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
