"""`tamvt bench engine`: how fast the embedded engine is, alone: no HTTP, no Redis.

Letters: L frames of a clip, N entries, O objects.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from service.commands.bench_results import BenchFigure, milliseconds, share
from service.commands.process_figures import read_resident_mb
from service.commands.steady_session import SteadySession, scale_sample_footage
from service.engines.base import Engine
from service.engines.embedded import embedded_engine
from service.engines.runtimes import RuntimeOptions

if TYPE_CHECKING:
    from service.commands.bench import BenchArguments
    from service.settings import Settings

ROUNDS = 5
CLIPS_AROUND = 50
EARLY_FRAME = 100
SETTLED_FRAME = 500


class EngineCase(NamedTuple):
    """What a row of the table is of."""

    runtime: str  # as the engine names it
    clip_length: int
    objects: int

    def __str__(self) -> str:
        return f"{self.runtime} L={self.clip_length} O={self.objects}"


class ClipCost(NamedTuple):
    """Median milliseconds of a clip, and those that the process computed meanwhile."""

    ms: float
    cpu_ms: float


@dataclass(slots=True)
class EngineBench:
    """Figures by name, and the tables that show them."""

    tables: list[str] = field(default_factory=list)
    figures: dict[str, BenchFigure] = field(default_factory=dict)


async def bench_engine(args: BenchArguments, settings: Settings, *, threads: int) -> EngineBench:
    """Measure clips with a full bank, in turns: a disturbance of the machine meets all of them."""
    found, footage = EngineBench(), scale_sample_footage(args.size)
    async with AsyncExitStack() as stack:
        engines: dict[str, Engine] = {}
        if args.against is not None:  # the first: the others are compared with it
            engines[str(args.against)] = await stack.enter_async_context(
                embedded_engine(args.against, settings.served_models[0], threads=threads)
            )
        for name in args.runtime or (settings.runtime,):
            options = RuntimeOptions(name, settings.runtime_files)
            engine = await stack.enter_async_context(
                embedded_engine(
                    settings.weights, settings.served_models[0], threads=threads, runtime=options
                )
            )
            engines.setdefault(engine.runtime, engine)
        sessions: dict[EngineCase, SteadySession] = {}
        for runtime, opened in engines.items():
            for length in args.clip_length:
                for objects in args.objects:
                    sessions[EngineCase(runtime, length, objects)] = SteadySession(
                        opened,
                        footage,
                        objects=objects,
                        clip_length=length,
                        memory_size=args.memory_size or opened.spec.memory_size,
                        name=f"bench-{length}-{objects}",
                    )
        for session in sessions.values():
            await session.fill()
        times: dict[EngineCase, list[tuple[float, float]]] = {case: [] for case in sessions}
        for _ in range(ROUNDS):
            for case, session in sessions.items():
                for _ in range(-(-args.clips // ROUNDS)):
                    begin = time.process_time()
                    ms = await session.clip_ms()
                    times[case].append((ms, 1000 * (time.process_time() - begin)))
        medians = {
            case: ClipCost(*(statistics.median(each) for each in zip(*measured, strict=True)))
            for case, measured in times.items()
        }
        add_clips(found, medians)
        if args.frames:
            first = list(engines.values())[args.against is not None]
            session = SteadySession(
                first,
                footage,
                objects=1,
                clip_length=args.clip_length[0],
                memory_size=args.memory_size or first.spec.memory_size,
            )
            await add_growth(found, session, clip_length=args.clip_length[0], frames=args.frames)
    return found


def add_clips(found: EngineBench, medians: Mapping[EngineCase, ClipCost]) -> None:
    """Add a row for each case, and how many times faster it is than the first runtime's.

    The CPU's time tells the same where other work takes turns with ours.
    """
    first = next(iter(medians)).runtime
    fewest = min(case.objects for case in medians)
    rows = [
        "| runtime | L | objects | clip, ms | CPU, ms | frames/s | a further object "
        "| times faster, by CPU |",
        "|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for case, cost in medians.items():
        found.figures[f"engine {case} clip"] = milliseconds(cost.ms)
        further = times_faster = "-"
        if case.objects > fewest == 1:
            alone = medians[case._replace(objects=1)].ms
            further = f"{(cost.ms / alone - 1) / (case.objects - 1):.0%} of the first"
        if case.runtime != first:
            other = medians[case._replace(runtime=first)]
            times_faster = f"{other.ms / cost.ms:.2f}, {other.cpu_ms / cost.cpu_ms:.2f}"
            found.figures[f"engine {case} against {first}"] = share(other.ms / cost.ms)
        rows.append(
            f"| {case.runtime} | {case.clip_length} | {case.objects} | {cost.ms:.1f} "
            f"| {cost.cpu_ms:.1f} | {case.clip_length * 1000 / cost.ms:.1f} | {further} "
            f"| {times_faster} |"
        )
    found.tables.append("\n".join(rows))


async def add_growth(
    found: EngineBench, session: SteadySession, *, clip_length: int, frames: int
) -> None:
    """Run one object for `frames` and half a window more; add what it costs early and late."""
    times: list[tuple[int, float]] = []
    rss_mb: dict[int, float] = {}
    end = frames + CLIPS_AROUND // 2 * clip_length
    while session.next_frame < end:
        frame = session.next_frame
        times.append((frame, await session.clip_ms()))
        rss_mb[frame] = read_resident_mb(os.getpid())
    early_ms, late_ms = take_median_around(EARLY_FRAME, times), take_median_around(frames, times)
    early_mb, late_mb = take_value_at(SETTLED_FRAME, rss_mb), take_value_at(frames, rss_mb)
    found.figures["engine clip, late of early"] = BenchFigure(late_ms / early_ms, "", "less")
    found.figures["engine RSS, late of early"] = BenchFigure(late_mb / early_mb, "", "less")
    found.tables.append(
        "| one object | early | late | change |\n|---|---|---|---|\n"
        f"| clip, ms, median of {CLIPS_AROUND} around frames {EARLY_FRAME} and {frames} "
        f"| {early_ms:.1f} | {late_ms:.1f} | {late_ms / early_ms - 1:+.1%} |\n"
        f"| RSS, MB, at frames {SETTLED_FRAME} and {frames} "
        f"| {early_mb:.0f} | {late_mb:.0f} | {late_mb / early_mb - 1:+.1%} |"
    )


def take_median_around(frame: int, times: Iterable[tuple[int, float]]) -> float:
    """Return the median of the 50 clips nearest to a frame."""
    nearest = sorted(times, key=lambda timed: abs(timed[0] - frame))[:CLIPS_AROUND]
    return statistics.median(milliseconds for _, milliseconds in nearest)


def take_value_at(frame: int, values: Mapping[int, float]) -> float:
    """Return the value of the frame nearest to this one."""
    return values[min(values, key=lambda known: abs(known - frame))]
