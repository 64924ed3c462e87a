"""What ONNX Runtime's memory planning costs and brings: its arena and its memory patterns.

    python -m scripts.measure.memory_planning [--clips 60] [--rounds 5]

Each setting runs in a process of its own and tracks clips of the shipped model with a full memory;
the settings take turns. Prints processor time of a clip (median over the rounds) and the process's
memory at the end. The engine runs with ONNX Runtime's defaults, the first row.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import numpy as np
import onnxruntime

from model.commands.bench import Setting, draw_pictures, make_clip_inputs
from model.commands.machine import processor
from model.core.contract import SHIPPED_WEIGHTS
from model.evaluation.results import today
from model.evaluation.runtime import GraphRuntime
from model.training.training_log import read_resident_bytes
from service.server.malloc import keep_large_blocks

NAME = "tamvt-mobile"
SETTINGS = {"arena and patterns": "11", "arena": "10", "patterns": "01", "neither": "00"}
ROOM = Setting(height=256, width=448, clip_length=2, memory_size=5)


def track(arena: bool, patterns: bool, *, clips: int) -> str:
    """Return milliseconds of processor time of a clip, and megabytes of the process after it."""
    keep_large_blocks()
    graphs = GraphRuntime(SHIPPED_WEIGHTS, NAME, threads=1)
    inputs = make_clip_inputs(graphs, *draw_pictures(ROOM, objects=1), ROOM)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_cpu_mem_arena, options.enable_mem_pattern = arena, patterns
    path = SHIPPED_WEIGHTS / f"{NAME}_segment.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = []
    for _ in range(clips):
        start = time.process_time()
        session.run(None, inputs)
        taken.append(time.process_time() - start)
    return f"{1000 * statistics.median(taken):.2f} {read_resident_bytes() / 1e6:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", choices=tuple(SETTINGS.values()), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(track(args.one[0] == "1", args.one[1] == "1", clips=args.clips))
        return
    found: dict[str, list[list[float]]] = {name: [] for name in SETTINGS}
    for _ in range(args.rounds):
        for name, digits in SETTINGS.items():
            command = [sys.executable, "-m", "scripts.measure.memory_planning", "--one", digits]
            told = subprocess.check_output([*command, "--clips", str(args.clips)], text=True)
            found[name].append([float(word) for word in told.split()])
    print("| setting | CPU, ms a clip | memory, MB |\n|---|---:|---:|")
    for name, rounds in found.items():
        milliseconds, megabytes = np.median(rounds, axis=0)
        print(f"| {name} | {milliseconds:.1f} | {megabytes:.0f} |")
    print(f"\n{NAME}, 256x448, L = 2, N = 5, {processor()}, {today()}")


if __name__ == "__main__":
    main()
