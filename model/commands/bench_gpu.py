"""`tamvt-model bench gpu`: what one GPU serves with PyTorch in bf16 and CUDA graphs.

Clip steps with full banks by the size of the batch; live sessions at 30 frames/s; what a session
takes of the device's memory. With `--device cpu` the same is run without CUDA graphs, to try it.
B sessions of a batch, L frames of a clip, N entries, O objects.
"""

import json
import os
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from cyclopts import Parameter

from model.commands.machine import describe_machine
from model.commands.options import SEVERAL, SPACED, Positive, Size, allow_only
from model.core.contract import ModelSpec
from model.evaluation.paced_clips import find_most, pace
from model.export.batched_step import BatchedStep, DeviceSessions, StepSize, prepare_device
from model.export.graph_export import describe
from model.networks.base import TrackingNetwork
from model.networks.registry import NETWORKS, build_network
from model.training.errors import SettingsError

MB = 1e6
WARM_UPS = 2
SHARE_OF_MEMORY = 0.8  # of what is free on the device, for banks
ON_A_CPU = "no GPU: a trial of the benchmark on the CPU, without CUDA graphs; no GPU's figures"


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a clip step."""

    half: bool  # bf16
    recorded: bool  # as a CUDA graph

    def __str__(self) -> str:
        return ("bf16" if self.half else "fp32") + (", CUDA graph" if self.recorded else "")


@dataclass(frozen=True, slots=True)
class SweepRow:
    """A clip step of so many sessions: milliseconds by way, and how many pixels bf16 changes."""

    objects: int
    batch: int
    ms: dict[str, float]
    changed_pixels: float  # share whose mask is another than in fp32

    @property
    def best_ms(self) -> float:
        return min(self.ms.values())


@dataclass(frozen=True, slots=True)
class SessionsHeld:
    """The most sessions whose clips keep up, and how late their masks are."""

    objects: int
    sessions: int
    p50_ms: float = 0.0
    p95_ms: float = 0.0
    clips_a_batch: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """Bytes that a session's bank takes on the device, and how many banks there is space for."""

    objects: int
    counted: int
    measured: int | None  # None: a CPU does not tell
    free: int
    fit: int


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBenchArguments:
    """The options of `tamvt-model bench gpu`."""

    build: Annotated[str, Parameter(validator=allow_only(NETWORKS))] = "tamvt-mobile"
    device: Annotated[
        Literal["cuda", "cpu"], Parameter(help="cpu tries the benchmark where no GPU is")
    ] = "cuda"
    size: Annotated[Size, Parameter(help="HxW")] = (256, 448)
    objects: Annotated[tuple[int, ...], SEVERAL, SPACED] = (1, 3)
    batches: Annotated[
        tuple[int, ...], SEVERAL, SPACED, Parameter(help="sessions of a batch, a row each")
    ] = (1, 2, 4, 8, 16, 32, 64)
    clip_length: Positive = 1
    memory_size: Positive = 5
    rounds: Annotated[Positive, Parameter(help="steps of which the median counts")] = 50
    rate: Annotated[float, Parameter(help="frames/s of a live session")] = 30.0
    latency_ms: Annotated[float, Parameter(help="p95 of a live session's masks")] = 100.0
    seconds: Annotated[float, Parameter(help="that sessions are held for")] = 10.0
    most: Annotated[Positive, Parameter(help="sessions that are tried")] = 10_000
    json: Annotated[Path | None, Parameter(help="write every figure into this file")] = None


BY_DEFAULT = GpuBenchArguments()


def run(
    _what: Annotated[Literal["gpu"], Parameter(name="WHAT", help="what one GPU serves")],
    /,
    *,
    args: GpuBenchArguments = BY_DEFAULT,
) -> int:
    """Print the tables and write the JSON; raise SettingsError where there is no GPU."""
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("there is no GPU here; --device cpu tries the benchmark without one")
    if min(args.objects) < 1 or min(args.batches) < 1:
        raise SettingsError("--objects and --batches must be at least 1")
    device = torch.device(args.device)
    # fp32 is what the CPU computes, not the shorter products of tensor cores.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    network = build_network(args.build).eval()
    if describe(network, "0" * 64).contract != 1:
        raise SettingsError(f"{args.build} carries more than a bank, which no step here does")
    about = describe_bench(args)
    print(about, flush=True)
    found: dict[str, list[Any]] = {"sweep": [], "sessions": [], "memory": [], "did_not_fit": []}
    for objects in args.objects:
        bench = GpuBench(network, args, device, objects=objects)
        try:
            for row in bench.sweep():
                found["sweep"].append(row)
            found["memory"].append(bench.measure_memory())
            own = [row for row in found["sweep"] if row.objects == objects]
            found["sessions"].append(bench.find_live_sessions(own, found["memory"][-1]))
        except torch.OutOfMemoryError as error:
            found["did_not_fit"].append(f"{objects} objects: {str(error).partition('. ')[0]}")
            print(f"the rest did not fit: {found['did_not_fit'][-1]}", flush=True)
    for table in (
        write_sweep_table(found["sweep"], args),
        write_sessions_table(found["sessions"], args),
        write_memory_table(found["memory"]),
    ):
        print(f"\n{table}", flush=True)
    if args.json is not None:
        write_json(args.json, about, args, found)
    return 0


class GpuBench:
    """The clip steps of one number of objects, by batch and way."""

    def __init__(
        self,
        network: TrackingNetwork,
        args: GpuBenchArguments,
        device: torch.device,
        *,
        objects: int,
    ) -> None:
        self.args, self.device, self.objects = args, device, objects
        self.served = prepare_device(network, device)
        self.spec: ModelSpec = describe(network, "0" * 64)
        self.size = StepSize(*args.size, args.clip_length, args.memory_size, objects)
        self.ways = [Way(half=False, recorded=False), Way(half=True, recorded=False)]
        if device.type == "cuda":
            self.ways.append(Way(half=True, recorded=True))

    def make_step(self, way: Way, batch: int) -> BatchedStep:
        """Return a step of so many sessions."""
        return BatchedStep(
            self.served, self.spec, self.size, batch=batch, half=way.half, recorded=way.recorded
        )

    def sweep(self) -> Iterator[SweepRow]:
        """Yield a row for each size of a batch; the ways take turns."""
        for batch in self.args.batches:
            steps = {str(way): self.make_step(way, batch) for way in self.ways}
            fill_alike(list(steps.values()))
            times: dict[str, list[float]] = {name: [] for name in steps}
            for number in range(WARM_UPS + self.args.rounds):
                for name, step in steps.items():
                    took = self.time_step(step)
                    if number >= WARM_UPS:
                        times[name].append(took)
            masks = [step.run()[0].cpu() for step in steps.values()]
            changed = max(((each >= 128) != (masks[0] >= 128)).float().mean() for each in masks)
            medians = {name: 1000 * statistics.median(each) for name, each in times.items()}
            yield SweepRow(self.objects, batch, medians, float(changed))

    def time_step(self, step: BatchedStep) -> float:
        """Return the seconds until a step's masks are there."""
        begin = time.perf_counter()
        step.run()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    def measure_memory(self, sessions: int = 8) -> SessionMemory:
        """Return what a session's bank takes, and how many fit beside one step."""
        step = self.make_step(self.ways[-1], 1)
        counted = self.args.memory_size * self.spec.slot_bytes(self.args.size, objects=self.objects)
        measured = None
        if self.device.type == "cuda":
            before = torch.cuda.memory_allocated()
            held = DeviceSessions([step], self.spec, self.size, sessions=sessions)
            measured = (torch.cuda.memory_allocated() - before) // sessions
            del held
            free = torch.cuda.mem_get_info()[0]
        else:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        fit = int(SHARE_OF_MEMORY * free) // (measured or counted)
        return SessionMemory(self.objects, counted, measured, free, fit)

    def find_live_sessions(self, rows: Sequence[SweepRow], memory: SessionMemory) -> SessionsHeld:
        """Return the most sessions that keep up, with batches of all sizes of the sweep's rows."""
        steps = [self.make_step(self.ways[-1], row.batch) for row in rows]
        period_s = self.args.clip_length / self.args.rate
        found = SessionsHeld(self.objects, 0)

        def holds(sessions: int) -> bool:
            nonlocal found
            hosted = DeviceSessions(steps, self.spec, self.size, sessions=sessions)
            paced = pace(
                hosted.serve,
                sessions=sessions,
                most=hosted.most,
                period_s=period_s,
                seconds=self.args.seconds,
            )
            p50, p95 = (1000 * float(each) for each in np.percentile(paced.latencies_s, (50, 95)))
            live = paced.kept_up and p95 <= self.args.latency_ms
            if live:
                together = len(paced.latencies_s) / paced.calls
                found = SessionsHeld(self.objects, sessions, p50, p95, together)
            return live

        most = min(memory.fit, self.args.most)
        clips_per_ms = max(row.batch / row.best_ms for row in rows)
        find_most(holds, start=int(1000 * period_s * clips_per_ms), most=most)
        return found


def fill_alike(steps: Sequence[BatchedStep]) -> None:
    """Fill the inputs of steps with the same random frames and entries."""
    random = torch.Generator().manual_seed(0)
    for name, first in steps[0].inputs.items():
        if name in ("age", "entry_valid"):
            continue
        if first.dtype == torch.uint8:
            values = torch.randint(0, 256, first.shape, generator=random, dtype=torch.uint8)
        else:
            values = torch.randn(first.shape, generator=random).to(first.dtype)
        for step in steps:
            step.inputs[name].copy_(values)


def describe_bench(args: GpuBenchArguments) -> str:
    """Return what is measured, on what and when."""
    height, width = args.size
    machine = describe_machine(args.device, threads=torch.get_num_threads())
    lines = [
        f"{args.build}, {height}x{width}, L = {args.clip_length}, N = {args.memory_size}, "
        "random weights, all objects known from the start",
        machine if args.device == "cuda" else f"{machine}\n{ON_A_CPU}",
    ]
    return "\n".join(lines)


def write_json(
    path: Path, about: str, args: GpuBenchArguments, found: Mapping[str, Sequence[Any]]
) -> None:
    """Write every figure, the options, and whether a GPU made them."""
    options = {name: value for name, value in asdict(args).items() if name != "json"}
    rows = {
        name: [each if isinstance(each, str) else asdict(each) for each in listed]
        for name, listed in found.items()
    }
    whole = {"about": about, "on_a_gpu": args.device == "cuda", "options": options, **rows}
    path.write_text(json.dumps(whole, indent=1) + "\n")


def write_sweep_table(rows: Sequence[SweepRow], args: GpuBenchArguments) -> str:
    """Return the steps by objects and batch, in Markdown."""
    ways = list(rows[0].ms) if rows else []
    titles = [f"{way}, ms" for way in ways]
    head = [
        "objects",
        "batch",
        *titles,
        "frames/s",
        f"sessions at {args.rate:g} frames/s",
        "changed",
    ]
    lines = [f"| {' | '.join(head)} |", f"|{'---:|' * len(head)}"]
    for row in rows:
        frames_per_s = 1000 * row.batch * args.clip_length / row.best_ms
        cells = [str(row.objects), str(row.batch), *(f"{row.ms[way]:.2f}" for way in ways)]
        cells += [f"{frames_per_s:.0f}", f"{frames_per_s / args.rate:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {100 * row.changed_pixels:.2f} % |")
    return "\n".join(lines)


def write_sessions_table(rows: Sequence[SessionsHeld], args: GpuBenchArguments) -> str:
    """Return the live sessions by objects, in Markdown."""
    lines = [
        f"| objects | live sessions at {args.rate:g} frames/s, p95 below {args.latency_ms:g} ms "
        "| p50, ms | p95, ms | clips a batch |",
        "|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.objects} | {row.sessions} | {row.p50_ms:.1f} | {row.p95_ms:.1f} "
        f"| {row.clips_a_batch:.1f} |"
        if row.sessions
        else f"| {row.objects} | 0 | - | - | - |"
        for row in rows
    ]
    return "\n".join(lines)


def write_memory_table(rows: Sequence[SessionMemory]) -> str:
    """Return what sessions take of the device's memory, in Markdown."""
    lines = [
        "| objects | a session's bank, MB | measured, MB | free, GB | banks that fit |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        measured = "-" if row.measured is None else f"{row.measured / MB:.2f}"
        lines.append(
            f"| {row.objects} | {row.counted / MB:.2f} | {measured} | {row.free / 1e9:.1f} "
            f"| {row.fit} |"
        )
    return "\n".join(lines)
