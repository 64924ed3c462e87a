"""`tamvt-model bench`: the exported graphs against the model as it is published, in one run.

Both do one clip step in the steady state: masks of L frames from N entries, and the new entry.
With `--train` a training is measured instead (`model.commands.bench_training`).
L frames of a clip, N entries, O objects, H and W the model's size.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import onnxruntime
import torch
from cyclopts import Parameter
from torch import Tensor

from model.commands.bench_training import TrainingArguments, report
from model.commands.machine import describe_machine
from model.commands.operator_profile import time_operators, write_times_table
from model.commands.options import SEVERAL, SPACED, Size
from model.evaluation.runtime import GraphRuntime, Runtime, Tensors, stack_entries
from model.export.graph_export import export
from model.networks.base import PublishedForm, TrackingNetwork, soft_masks
from model.networks.registry import build_network, publish_form

BUILD = "tamvt-r50"
WANTED = {1: 2.2, 3: 3.5}  # how many times faster, by the number of objects
WARM_UPS = 2  # ONNX Runtime's arena still grows in its second step
# glibc returns large blocks after every use and fetches them again; both sides keep them.
KEPT_BLOCKS = {
    "THP_MEM_ALLOC_ENABLE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=8589934592"
    ":glibc.malloc.top_pad=268435456",
}


@dataclass(frozen=True, slots=True)
class Setting:
    """What a clip step works on."""

    height: int
    width: int
    clip_length: int
    memory_size: int


@dataclass(frozen=True, slots=True)
class Timing:
    """Median seconds of a clip step with so many objects."""

    objects: int
    reference_s: float
    graphs_s: float

    @property
    def ratio(self) -> float:
        """Return how many times faster the graphs are."""
        return self.reference_s / self.graphs_s


def measure(
    network: TrackingNetwork, graphs: Runtime, setting: Setting, *, objects: int, rounds: int
) -> Timing:
    """Time both ways in turns, so that a disturbance meets both; return medians of `rounds`."""
    frames, masks = draw_pictures(setting, objects=objects)
    long_way = make_reference_step(network, frames, masks, setting)
    ours = make_graph_step(graphs, frames, masks, setting)
    for _ in range(WARM_UPS):
        long_way()
        ours()
    reference_s, graphs_s = zip(
        *((time_step(long_way), time_step(ours)) for _ in range(rounds)), strict=True
    )
    return Timing(objects, statistics.median(reference_s), statistics.median(graphs_s))


def draw_pictures(setting: Setting, *, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random frames uint8 (L, H, W, 3) and soft masks uint8 (O, H, W)."""
    random = np.random.default_rng(0)
    shape = (setting.height, setting.width)
    frames = random.integers(0, 256, (setting.clip_length, *shape, 3), dtype=np.uint8)
    return frames, random.integers(0, 256, (objects, *shape), dtype=np.uint8)


def time_step(step: Callable[[], object]) -> float:
    """Return the seconds that a step takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def make_reference_step(
    network: TrackingNetwork, frames: np.ndarray, masks: np.ndarray, setting: Setting
) -> Callable[[], None]:
    """Return a clip step the long way; every object is a run with its own entries."""
    reference = publish_form(network)
    images = network.normalize(torch.from_numpy(frames))
    with torch.inference_mode():
        banks = [
            [reference.memorize(images[:1], torch.from_numpy(mask) / 255)] * setting.memory_size
            for mask in masks
        ]

    @torch.inference_mode()
    def step() -> None:
        for entries in banks:
            run_reference_clip(reference, images, entries)

    return step


def run_reference_clip(
    reference: PublishedForm, images: Tensor, entries: Sequence[Any]
) -> tuple[Tensor, Any]:
    """Return soft masks (L, H, W) of one object in one clip, and the entry of its last frame."""
    logits = reference.segment(images, entries)[-1]
    size = (images.shape[2], images.shape[3])
    soft = soft_masks(logits[None, :, None], size)[0, :, 0]
    return soft, reference.memorize(images[-1:], soft[-1])


def make_graph_step(
    graphs: Runtime, frames: np.ndarray, masks: np.ndarray, setting: Setting
) -> Callable[[], Tensors]:
    """Return a clip step on the exported graphs, all objects at once."""
    inputs = make_clip_inputs(graphs, frames, masks, setting)
    return lambda: graphs.segment(inputs)


def make_clip_inputs(
    graphs: Runtime, frames: np.ndarray, masks: np.ndarray, setting: Setting
) -> Tensors:
    """Return what `segment` takes with a full memory."""
    entry = graphs.memorize({"frame": frames[:1], "masks": masks[None]})
    return {
        **stack_entries([entry] * setting.memory_size),
        "frames": frames[None],
        "age": np.arange(setting.memory_size - 1, -1, -1, dtype=np.int32)[None],
        "entry_valid": np.ones((1, len(masks), setting.memory_size), dtype=np.bool_),
    }


def table(timings: Sequence[Timing]) -> str:
    """Return the timings in Markdown."""
    lines = [
        "| objects | plain PyTorch, s | exported graphs, s | times faster | wanted |",
        "|---:|---:|---:|---:|---:|",
    ]
    for timing in timings:
        wanted = WANTED.get(timing.objects)
        lines.append(
            f"| {timing.objects} | {timing.reference_s:.2f} | {timing.graphs_s:.2f} "
            f"| {timing.ratio:.2f} | {'' if wanted is None else wanted} |"
        )
    return "\n".join(lines)


def describe_run(setting: Setting, *, threads: int, rounds: int) -> str:
    """Return what was measured, where and when."""
    return (
        f"{BUILD}, {setting.height}x{setting.width}, N = {setting.memory_size}, "
        f"L = {setting.clip_length}, fp32, random weights: seconds per clip step, median of "
        f"{rounds}\n{describe_machine('cpu', threads=threads)}, "
        f"ONNX Runtime {onnxruntime.__version__}"
    )


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBenchArguments:
    """The options of `tamvt-model bench`."""

    size: Annotated[Size, Parameter(help="HxW")] = (480, 864)
    objects: Annotated[
        tuple[int, ...], SEVERAL, SPACED, Parameter(help="a row for each number")
    ] = (1, 3)
    graphs: Annotated[Path | None, Parameter(help="folder of an earlier export (default: now)")] = (
        None
    )
    clip_length: int = 2
    memory_size: int = 9
    rounds: Annotated[int, Parameter(help="steps of which the median counts")] = 5
    threads: int = os.cpu_count() or 1
    profile: Annotated[bool, Parameter(help="say where the graphs' time goes instead")] = False


BY_DEFAULT = ModelBenchArguments()
NO_TRAINING = TrainingArguments()


def run(
    *, args: ModelBenchArguments = BY_DEFAULT, training: TrainingArguments = NO_TRAINING
) -> int:
    """Print the tables; start the command anew where the malloc settings are not in force."""
    if any(os.environ.get(name) != value for name, value in KEPT_BLOCKS.items()):
        sys.stdout.flush()
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, os.environ | KEPT_BLOCKS)
    torch.set_num_threads(args.threads)
    if training.train is not None:
        for text in report(training, args.size):
            print(text, flush=True)
        return 0
    torch.manual_seed(0)
    height, width = args.size
    setting = Setting(height, width, args.clip_length, args.memory_size)
    network = build_network(BUILD).eval()
    print(describe_run(setting, threads=args.threads, rounds=args.rounds), flush=True)
    with TemporaryDirectory() as fresh:
        folder = args.graphs or Path(fresh)
        if args.graphs is None:
            export(network, folder)
        graphs = GraphRuntime(folder, BUILD, threads=args.threads)
        for objects in args.objects if args.profile else ():
            inputs = make_clip_inputs(graphs, *draw_pictures(setting, objects=objects), setting)
            path = folder / f"{BUILD}_segment.onnx"
            times = time_operators(path, inputs, threads=args.threads)
            print(f"\n{objects} objects\n{write_times_table(times)}", flush=True)
    if not args.profile:
        timings = [
            measure(network, graphs, setting, objects=objects, rounds=args.rounds)
            for objects in args.objects
        ]
        print(table(timings))
    return 0
