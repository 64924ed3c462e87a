"""Where the time of a frame goes: measure it and draw docs/images/frame-time.svg.

    python -m scripts.draw_frame_time [--threads 1] [--rounds 40] [--clips 100]

The upper bar is a frame of a session over REST, by the stages that each answer tells; the lower
ones are the engine's part by kind of operator, in each runtime that is installed, as its own
profiler sees it. What a busy machine adds is left out: of each stage the lowest quartile of all
clips counts, of each operator its fastest run, and of inference at most its processor time. Where
the operators together take longer than that, the profiler was disturbed and only the whole is told.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from service.commands.bench_service import scale_sample
from service.engines.canary import inputs_of_segment, scene
from service.engines.graphs import Graphs, open_graphs
from service.engines.inference import Inference
from service.engines.open_vino import HINTS, open_core
from service.engines.runtimes import open_vino
from service.engines.static_graph import read_static
from service.local.private_service import private_service
from service.server.malloc import keep_large_blocks
from tamvt_client import Client

NAME = "tamvt-mobile"
TARGET = Path(__file__).parents[1] / "docs" / "images" / "frame-time.svg"
KINDS = {
    "convolutions": ("Conv", "FusedConv", "NhwcConv", "Convolution", "ConvTranspose"),
    "attention, products": (
        "MultiHeadAttention",
        "MatMul",
        "FusedMatMul",
        "Gemm",
        "FullyConnected",
        "ScaledDotProductAttention",
        "SDPA",
    ),
    "resizing": ("Resize", "Interpolate"),
}
OTHERS = "norms, sums, layout"
MOST_DISTURBED = 1.25
COLORS = ("#2f7d73", "#c98f2b", "#6c7fb5", "#a9b5b2", "#b5564a", "#8a6fa8")
STYLE = """
svg { --paper: #ffffff; --ink: #1d2524; --faint: #5b6866; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #12181a; --ink: #e8eeec; --faint: #a3b1ae; } }
text { font: 14px system-ui, "DejaVu Sans", sans-serif; fill: var(--ink); }
.name { font-weight: 600; } .note { font-size: 12px; fill: var(--faint); }
"""
Parts = dict[str, float]  # milliseconds of a frame, by name
Inputs = Mapping[str, NDArray[Any]]


def kind_of(operator: str) -> str:
    return next((kind for kind, names in KINDS.items() if operator in names), OTHERS)


def in_onnx_runtime(path: Path, inputs: Inputs, *, threads: int, rounds: int) -> Parts:
    """Return milliseconds of one run by kind of operator, of each node its fastest."""
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "run")
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
        for _ in range(rounds):
            session.run(None, dict(inputs))
        events = json.loads(Path(session.end_profiling()).read_text())
    fastest: dict[str, tuple[float, str]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            took = (float(event["dur"]) / 1000, event["args"]["op_name"])
            fastest[event["name"]] = min(fastest.get(event["name"], took), took)
    return summed(fastest.values())


def in_openvino(path: Path, inputs: Inputs, *, threads: int, rounds: int) -> Parts:
    """Return the same of OpenVINO in bf16."""
    core = open_core()
    config = {
        "INFERENCE_PRECISION_HINT": HINTS["bf16"],
        "INFERENCE_NUM_THREADS": threads,
        "PERF_COUNT": True,
    }
    with tempfile.TemporaryDirectory() as folder:
        shapes = {name: each.shape for name, each in inputs.items()}
        model = read_static(core, path, shapes, Path(folder))
        request = core.compile_model(model, "CPU", config).create_infer_request()
    fastest: dict[str, tuple[float, str]] = {}
    for _ in range(rounds):
        request.infer(dict(inputs))
        for node in request.get_profiling_info():
            took = (node.real_time.total_seconds() * 1000, node.node_type)
            fastest[node.node_name] = min(fastest.get(node.node_name, took), took)
    return summed(fastest.values())


def summed(nodes: Sequence[tuple[float, str]] | Any) -> Parts:
    found: defaultdict[str, float] = defaultdict(float)
    for ms, operator in nodes:
        found[kind_of(operator)] += ms
    return {kind: found[kind] for kind in (*KINDS, OTHERS)}


def processor_ms(graphs: Graphs, inputs: Inputs, *, rounds: int) -> float:
    """Return the median milliseconds that this process computes for one run of `segment`."""
    took = []
    for _ in range(rounds):
        begin = time.process_time()
        Inference()(graphs.segment, inputs)
        took.append(1000 * (time.process_time() - begin))
    return float(np.median(took))


def over_rest(*, threads: int, clips: int) -> Parts:
    """Return milliseconds of a frame by stage, from appends of one clip each."""
    images, mask = scale_sample((256, 448))
    seen: defaultdict[str, list[float]] = defaultdict(list)
    settings = {"TAMVT_ENGINE_THREADS": str(threads), "TAMVT_RUNTIME": "onnxruntime"}
    with (
        tempfile.TemporaryDirectory(prefix="tamvt-time-") as folder,
        private_service(Path(folder), settings=settings) as url,
        Client(url) as client,
    ):
        started = client.start(images[0], mask)
        source, first, length = cycle(images[1:]), 1, started.clip_length
        for _ in range(clips):
            sent = list(islice(source, length))
            answer = client.append(started.session_id, sent, first_frame=first)
            first = answer.next_frame
            for stage, ms in answer.timing.items():
                if stage != "total_ms":
                    seen[stage.removesuffix("_ms")].append(ms / length)
    return {stage: float(np.quantile(times, 0.25)) for stage, times in seen.items()}


def bar(title: str, parts: Parts, *, y: int, scale: float) -> str:
    """Return one bar with its legend as SVG."""
    drawn = [f'<text class="name" x="24" y="{y}">{escape(title)}</text>']
    x = 24.0
    for color, (name, ms) in zip(COLORS, parts.items(), strict=False):
        width = ms * scale
        drawn.append(
            f'<rect x="{x:.1f}" y="{y + 10}" width="{max(width, 0.5):.1f}" height="30" '
            f'fill="{color}"><title>{escape(name)}: {ms:.2f} ms</title></rect>'
        )
        x += width
    x = 24.0
    for color, (name, ms) in zip(COLORS, parts.items(), strict=False):
        told = f"{name} {ms:.1f}"
        drawn.append(f'<rect x="{x:.0f}" y="{y + 51}" width="10" height="10" fill="{color}"/>')
        drawn.append(f'<text class="note" x="{x + 15:.0f}" y="{y + 60}">{escape(told)}</text>')
        x += 34 + 6.6 * len(told)
    return "\n".join(drawn)


def draw(bars: Mapping[str, Parts]) -> str:
    """Return the picture."""
    longest = max(sum(parts.values()) for parts in bars.values())
    scale, height = 850 / longest, 30 + 92 * len(bars)
    rows = "\n".join(
        bar(f"{title}: {sum(parts.values()):.1f} ms", parts, y=36 + 92 * row, scale=scale)
        for row, (title, parts) in enumerate(bars.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 {height}" role="img" '
        f'aria-label="Where the time of a frame goes">\n<style>{STYLE}</style>\n'
        f'<rect width="900" height="{height}" fill="var(--paper)"/>\n{rows}\n</svg>\n'
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of one inference")
    parser.add_argument("--rounds", type=int, default=40, help="runs of the engine alone")
    parser.add_argument("--clips", type=int, default=100, help="over REST")
    arguments = parser.parse_args()
    keep_large_blocks()
    threads = arguments.threads
    graphs = open_graphs(SHIPPED_WEIGHTS, NAME, threads=threads)
    frame, mask = scene(graphs.spec.buckets.sizes[0], 0)
    entry = Inference()(graphs.memorize, {"frame": frame[None], "masks": mask[None, None]})
    inputs = inputs_of_segment(graphs.spec, entry, {})
    path = SHIPPED_WEIGHTS / f"{NAME}_segment.onnx"
    length = graphs.spec.clip_length
    other = graphs.on(open_vino(precision="bf16", threads=threads, files=None), SHIPPED_WEIGHTS)
    rest = over_rest(threads=threads, clips=arguments.clips)
    bars = {"A frame over REST, ONNX Runtime": rest}
    for title, served, measure in (
        ("The engine, ONNX Runtime in fp32", graphs, in_onnx_runtime),
        ("The engine, OpenVINO in bf16", other, in_openvino),
    ):
        whole = processor_ms(served, inputs, rounds=arguments.rounds)
        if served is graphs:
            rest["inference"] = min(rest["inference"], whole / length)
        parts = measure(path, inputs, threads=threads, rounds=arguments.rounds)
        if sum(parts.values()) > MOST_DISTURBED * whole:
            parts = {"the whole (its profiler was disturbed)": whole}
        bars[title] = {name: ms / length for name, ms in parts.items()}
    for title, parts in bars.items():
        told = ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
        print(f"{title}: {sum(parts.values()):.1f} ms a frame: {told}")
    TARGET.write_text(draw(bars), encoding="utf-8")


if __name__ == "__main__":
    main()
