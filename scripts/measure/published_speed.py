"""`tamvt-r50` as both runtimes serve it, against the model as it is published, in one run.

    python -m scripts.measure.published_speed [--objects 1 3] [--size 480x864] [--rounds 5]

A clip step in the steady state, as `tamvt-model bench` does it: masks of two frames from nine
entries, and the new entry. PyTorch, ONNX Runtime in fp32 and OpenVINO (bf16 where the processor
has it) take turns; OpenVINO's masks are compared with ONNX Runtime's. Random weights, since cost
does not depend on them.
"""

from __future__ import annotations

import argparse
import os
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from model.commands.bench import (
    WARM_UPS,
    Setting,
    draw_pictures,
    make_graph_step,
    make_reference_step,
    time_step,
)
from model.commands.machine import describe_machine
from model.commands.options import parse_size
from model.export.graph_export import export
from model.networks.registry import build_network
from scripts.runtime_quality import FILES, ServedRuntime
from service.engines.graphs import open_graphs
from service.engines.open_vino import computes_bf16
from service.engines.runtimes import open_vino
from service.server.malloc import keep_large_blocks

BUILD, CLIP_LENGTH, MEMORY_SIZE = "tamvt-r50", 2, 9


def alternate(steps: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, float]:
    """Return the median seconds of each step; they are done in turns."""
    for step in steps.values():
        for _ in range(WARM_UPS):
            step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            taken[name].append(time_step(step))
    return {name: statistics.median(each) for name, each in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", nargs="+", type=int, default=[1, 3])
    parser.add_argument("--size", type=parse_size, default=(480, 864), metavar="HxW")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    keep_large_blocks()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    height, width = args.size
    setting = Setting(height, width, CLIP_LENGTH, MEMORY_SIZE)
    network = build_network(BUILD).eval()
    with TemporaryDirectory() as folder:
        export(network, Path(folder))
        graphs = open_graphs(Path(folder), BUILD, threads=args.threads)
        runtime = open_vino(
            precision="bf16" if computes_bf16() else "fp32", threads=args.threads, files=FILES
        )
        other = graphs.on(runtime, Path(folder))
        print(f"{BUILD}, {height}x{width}, {describe_machine('cpu', threads=args.threads)}")
        print(f"| objects | PyTorch, s | {graphs.runtime} | times | {other.runtime} | times | |")
        print("|---:|---:|---:|---:|---:|---:|---|")
        for objects in args.objects:
            frames, masks = draw_pictures(setting, objects=objects)
            ours, theirs = (
                make_graph_step(ServedRuntime(each), frames, masks, setting)
                for each in (graphs, other)
            )
            apart = np.abs(ours()["masks"].astype(int) - theirs()["masks"].astype(int))
            steps = {
                "torch": make_reference_step(network, frames, masks, setting),
                "ort": ours,
                "openvino": theirs,
            }
            took = alternate(steps, rounds=args.rounds)
            print(
                f"| {objects} | {took['torch']:.2f} | {took['ort']:.2f} "
                f"| {took['torch'] / took['ort']:.2f} | {took['openvino']:.2f} "
                f"| {took['torch'] / took['openvino']:.2f} "
                f"| masks apart by {apart.mean():.2f} of 255 on average |",
                flush=True,
            )


if __name__ == "__main__":
    main()
