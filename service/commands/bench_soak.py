"""`tamvt bench soak`: a long session, many short ones, many frame sizes, and what is left of them.

The service runs in a process of its own, once for each runtime and once before a Triton if there
is one. At the end nothing may have grown: the time of a clip, memory, Redis, descriptors, tasks,
children, shared memory.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

import httpx
from redis import Redis

from service.commands.bench_results import BenchFigure
from service.commands.bench_service import (
    BenchedService,
    Video,
    read_runtime,
    scale_sample,
    scale_video,
    served,
    start_triton,
)
from service.commands.process_figures import command_of, descendants, held
from service.media.sample import draw_sample
from tamvt_client import Client

if TYPE_CHECKING:
    from service.commands.bench import BenchArguments
    from service.settings import Settings

MOST_SLOWER: Final = 0.05
MOST_RSS: Final = 0.02
MOST_OTHERS: Final = 2  # tasks and descriptors that may be on their way
SETTLE_S: Final = 2.0
APPEND: Final = 8
TRITON_FRAMES: Final = 2_000  # of the long session, and of the short ones together
WIDER: Final = 32  # pixels from one frame size to the next: another size in the model, too


@dataclass(frozen=True, slots=True)
class Holding:
    """What the service holds while nobody calls it."""

    rss_mb: float
    redis_mb: float
    descriptors: int
    tasks: int
    children: int
    regions: int


def holding(service: BenchedService, *, settle_s: float) -> Holding:
    """Return what the service holds once it has been left alone for so long."""
    time.sleep(settle_s)
    text = httpx.get(f"{service.url}/metrics").raise_for_status().text
    tasks = re.search(r"^tamvt_tasks ([\d.]+)", text, re.MULTILINE)
    family = held(service.pid)
    return Holding(
        family.rss_mb,
        redis_mb(service),
        family.descriptors,
        int(float(tasks[1])) if tasks else 0,
        family.children,
        family.regions,
    )


def redis_mb(service: BenchedService) -> float:
    """Return the megabytes of data in the service's private Redis."""
    for pid in descendants(service.pid):
        found = re.search(r"(/\S+redis\.sock)", command_of(pid))
        if found:
            with Redis(unix_socket_path=found[1]) as client:
                return float(client.info("memory")["used_memory"]) / 1e6
    return 0.0


@dataclass(frozen=True, slots=True)
class LongRun:
    """Milliseconds of each clip of a session; megabytes of Redis and the process by quarters."""

    clip_ms: list[float]
    redis_mb: list[float]
    rss_mb: list[float]


def run_long(service: BenchedService, video: Video, frames: int) -> LongRun:
    """Append so many frames to one session, and delete it."""
    images, mask = video
    clip_ms: list[float] = []
    stored: list[float] = []
    resident: list[float] = []
    with Client(service.url) as client:
        started = client.start(images[0], mask)
        source, first = cycle(images[1:]), 1
        while first <= frames:
            answer = client.append(
                started.session_id, list(islice(source, APPEND)), first_frame=first
            )
            clip_ms.append(answer.timing["inference_ms"] * started.clip_length / APPEND)
            first = answer.next_frame
            if len(stored) < 4 * first / frames:
                stored.append(redis_mb(service))
                resident.append(held(service.pid).rss_mb)
        client.delete(started.session_id)
    return LongRun(clip_ms, stored, resident)


def run_short(service: BenchedService, video: Video, *, sessions: int, frames: int) -> None:
    """Start, track and delete so many sessions, one after another."""
    images, mask = video
    with Client(service.url) as client:
        for _ in range(sessions):
            session = client.start(images[0], mask).session_id
            sent = list(islice(cycle(images[1:]), frames))
            client.append(session, sent, first_frame=1)
            client.delete(session)


def run_sizes(
    service: BenchedService, height: int, *, sizes: int, rounds: int, settle_s: float
) -> list[float]:
    """Track a short session of each frame size in each round; return RSS in MB after each round."""
    pictures = list(islice(draw_sample(), APPEND + 1))
    videos = [
        scale_video(pictures, (height, height + WIDER * number), objects=1)
        for number in range(sizes)
    ]
    after = []
    for _ in range(rounds):
        for video in videos:
            run_short(service, video, sessions=1, frames=APPEND)
        after.append(holding(service, settle_s=settle_s).rss_mb)
    return after


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakCase:
    """A service and what it goes through."""

    settings: dict[str, str]
    runtime: str  # that it has to run on
    frames: int
    sessions: int


@dataclass(slots=True)
class SoakReport:
    """A table for each service, its figures, and what is wrong."""

    tables: list[str] = field(default_factory=list)
    figures: dict[str, BenchFigure] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    _rows: list[str] = field(default_factory=list)
    _about: str = ""

    def begin(self, about: str) -> None:
        """Begin a table about a service."""
        self._about = about
        self._rows = [
            f"| {about}: what | before | after | change | at most |",
            "|---|---:|---:|---:|---:|",
        ]

    def add_measure(self, name: str, first: float, last: float, most: float) -> None:
        """Add what may grow by a share."""
        by = last / first - 1 if first else 0.0
        self._rows.append(f"| {name} | {first:.1f} | {last:.1f} | {by:+.1%} | {most:+.0%} |")
        self.figures[f"soak {self._about}, {name}"] = BenchFigure(round(1 + by, 4), "", "less")
        self.failed += [f"{name} ({self._about}) grew"] if by > most else []

    def add_count(self, name: str, first: float, last: float, most: float) -> None:
        """Add what may grow by so much."""
        self._rows.append(f"| {name} | {first:g} | {last:g} | {last - first:+g} | {most:+g} |")
        self.failed += [f"{name} ({self._about}) grew"] if last - first > most else []

    def end(self, note: str) -> None:
        """End the table with a sentence."""
        self.tables.append("\n".join([*self._rows, "", note]))


def soak(
    args: BenchArguments, settings: Settings, *, threads: int, settle_s: float = SETTLE_S
) -> SoakReport:
    """Return what grew in each service, and the tables that show it."""
    report, video = SoakReport(), scale_sample(args.size)
    with ExitStack() as stack:
        for case in list_soak_cases(args, settings, stack):
            with served(threads=threads, settings=case.settings) as service:
                runtime = read_runtime(service.url)
                if not runtime.startswith(case.runtime):
                    report.failed.append(f"{case.runtime} was not run: {runtime} serves instead")
                    continue
                report.begin(runtime)
                soak_service(
                    report, service, video, case, args, settings.session_bytes, settle_s=settle_s
                )
    return report


def list_soak_cases(
    args: BenchArguments, settings: Settings, stack: ExitStack
) -> Iterator[SoakCase]:
    """Yield a case for each runtime, and for a Triton, which runs until the stack is left."""
    frames, sessions = args.frames or 10_000, args.sessions or 2_000
    for name in args.runtime or (settings.runtime,):
        own = {"TAMVT_RUNTIME": name, "TAMVT_ENGINE": "embedded"}
        yield SoakCase(
            settings=own,
            runtime="" if name == "auto" else name,
            frames=frames,
            sessions=sessions,
        )
    through_shared_memory = islice(start_triton(args.triton_repository, stack).values(), 1)
    for own in through_shared_memory:
        yield SoakCase(
            settings=own,
            runtime="triton",
            frames=min(frames, TRITON_FRAMES),
            sessions=min(sessions, TRITON_FRAMES // args.session_frames),
        )


def soak_service(
    report: SoakReport,
    service: BenchedService,
    video: Video,
    case: SoakCase,
    args: BenchArguments,
    session_bytes: int,
    *,
    settle_s: float,
) -> None:
    """Run everything against one service and add its table."""
    run_long(service, video, min(case.frames, 64))  # whatever grows once has grown
    run_short(service, video, sessions=2, frames=args.session_frames)
    before = holding(service, settle_s=settle_s)
    long = run_long(service, video, case.frames)
    between = holding(service, settle_s=settle_s)
    run_short(service, video, sessions=case.sessions, frames=args.session_frames)
    after = holding(service, settle_s=settle_s)
    sizes, rounds = args.frame_sizes, args.size_rounds
    by_round = run_sizes(service, args.size[0], sizes=sizes, rounds=rounds, settle_s=settle_s)
    window = max(1, len(long.clip_ms) // 10)
    early, late = (
        statistics.median(part) for part in (long.clip_ms[:window], long.clip_ms[-window:])
    )
    report.add_measure("clip, ms", early, late, MOST_SLOWER)
    report.add_measure(
        f"RSS, MB, after {case.frames} frames", long.rss_mb[0], long.rss_mb[-1], MOST_RSS
    )
    report.add_measure(
        f"RSS, MB, after {case.sessions} sessions", between.rss_mb, after.rss_mb, MOST_RSS
    )
    report.add_measure(
        f"RSS, MB, {sizes} frame sizes again, {rounds} rounds", by_round[0], by_round[-1], MOST_RSS
    )
    report.add_measure(
        "Redis, MB, when all is deleted", before.redis_mb, after.redis_mb, MOST_SLOWER
    )
    if session_bytes:
        report.add_count(
            "Redis, MB, most of a session",
            round(before.redis_mb, 1),
            round(max(long.redis_mb), 1),
            session_bytes / 1e6,
        )
    for name in ("descriptors", "tasks", "children", "regions"):
        most = MOST_OTHERS if name in ("descriptors", "tasks") else 0
        report.add_count(name, getattr(before, name), getattr(after, name), most)
    stored = " ".join(f"{each:.2f}" for each in long.redis_mb)
    resident = " ".join(f"{each:.0f}" for each in by_round)
    report.end(
        f"Redis over the {case.frames} frames, in quarters: {stored} MB. "
        f"RSS after each round of frame sizes: {resident} MB."
    )
