"""What a model loses by another runtime, closed loop: the videos of dev and the yardstick, paired.

    python -m scripts.runtime_quality [tamvt-mobile] [--sets twins long ...] [--write]

Each video is tracked once with ONNX Runtime in fp32 and once with OpenVINO, by the offline loop
that gives the service's masks. Prints the tables of docs/performance.md. `--write` also writes
`<name>.runtimes.json` beside the weights, by which `TAMVT_RUNTIME=auto` decides.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from model.commands.machine import processor
from model.commands.options import choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS, ModelSpec
from model.data.layouts import VideoSet
from model.data.yardstick import SETS, make_clips, open_stock
from model.evaluation.runtime import Runtime, Tensors
from model.evaluation.scoring import predict, read_truth, score
from model.evaluation.tables import average_measures
from model.evaluation.yardstick import paired_interval, score_clip
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.open_vino import computes_bf16
from service.engines.runtimes import open_vino

FILES = Path("~/.cache/tamvt").expanduser()


class ServedRuntime:
    """The engine's graphs under the names that the offline loop calls them by."""

    def __init__(self, graphs: Graphs) -> None:
        self.spec: ModelSpec = graphs.spec
        self._graphs = graphs

    def memorize(self, inputs: Tensors) -> Tensors:
        """Return one entry."""
        return Inference()(self._graphs.memorize, inputs)

    def segment(self, inputs: Tensors) -> Tensors:
        """Return masks, confidence and the new entry; a bank is padded as the engine does it."""
        if not self._graphs.any_shape:
            inputs = self._padded(inputs)
        return Inference()(self._graphs.segment, inputs)

    def _padded(self, inputs: Tensors) -> Tensors:
        missing = self.spec.memory_size - inputs["age"].shape[1]
        axes = dict.fromkeys((tensor.name for tensor in self.spec.bank), 1)
        axes |= {"age": 1, "entry_valid": 2}
        padded = dict(inputs)
        for name, axis in axes.items():
            width = [(0, 0)] * inputs[name].ndim
            width[axis] = (0, missing)
            empty = -1 if name == "age" else 0
            padded[name] = np.pad(inputs[name], width, constant_values=empty)
        return padded


def dev_rows(runtimes: Sequence[Runtime]) -> tuple[list[str], float]:
    """Return a row for each video with J&F by both runtimes, and the points lost in the mean."""
    rows, means = [], []
    for video in VideoSet("shared", choose_data_folder(None) / "video", "dev").open():
        truth = read_truth(video)
        both = [
            100 * average_measures(score(video, truth, predict(runtime, video, truth)))["j_and_f"]
            for runtime in runtimes
        ]
        means.append(both)
        rows.append(row(video.name, both))
        print(rows[-1], file=sys.stderr, flush=True)
    fp32, other = np.mean(means, axis=0)
    return [*rows, row("**mean**", [fp32, other])], float(fp32 - other)


def row(name: str, both: Sequence[float]) -> str:
    fp32, other = both
    return f"| {name} | {fp32:.2f} | {other:.2f} | {other - fp32:+.2f} |"


def yardstick_row(name: str, runtimes: Sequence[Runtime]) -> str:
    """Return the J of one set by both runtimes, and the interval of their difference."""
    stock = open_stock(choose_data_folder(None))
    scores: list[list[float]] = [[], []]
    for clip in make_clips(stock, name):
        for found, runtime in zip(scores, runtimes, strict=True):
            found.append(score_clip(runtime, clip).j)
    mean, low, high = (100 * each for each in paired_interval(*scores))
    fp32, other = (100 * float(np.mean(found)) for found in scores)
    told = f"| {name} | {fp32:.2f} | {other:.2f} | {mean:+.2f} ({low:+.2f} to {high:+.2f}) |"
    print(told, file=sys.stderr, flush=True)
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tamvt-mobile")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS, help="their folder")
    parser.add_argument("--sets", nargs="*", default=[], choices=SETS, help="of the yardstick")
    parser.add_argument("--threads", type=int, default=0, help="of one inference; 0: all")
    parser.add_argument("--write", action="store_true", help="for TAMVT_RUNTIME=auto")
    arguments = parser.parse_args()
    threads = arguments.threads or len(os.sched_getaffinity(0))
    graphs = open_graphs(arguments.graphs, arguments.model, threads=threads)
    other = open_vino(precision="bf16" if computes_bf16() else "fp32", threads=threads, files=FILES)
    served = ServedRuntime(graphs), ServedRuntime(graphs.on(other, arguments.graphs))
    weights, today = graphs.spec.weights_sha256, f"{datetime.now(UTC):%Y-%m-%d}"
    rows, loss = dev_rows(served)
    head = f"{graphs.runtime} | {other.name}"
    print(f"\n{arguments.model}, weights {weights[:12]}, {processor()}, {today}\n")
    print(f"| dev, J&F | {head} | change |\n|---|---:|---:|---:|")
    print("\n".join(rows))
    if arguments.sets:
        print(f"\n| yardstick, J | {head} | change (95 %) |\n|---|---:|---:|---|")
        print("\n".join([yardstick_row(name, served) for name in arguments.sets]))
    if arguments.write:
        told = {
            "weights_sha256": weights,
            "loss": {other.name: round(loss, 2)},
            "of": f"J&F in points on dev, against {graphs.runtime}, {processor()}, {today}",
        }
        path = arguments.graphs / f"{arguments.model}.runtimes.json"
        path.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
