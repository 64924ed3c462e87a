"""`tamvt bench soak`: a long session and many short ones, and what is left of them.

The service runs in a process of its own. At the end nothing may have grown: the time of a clip,
memory, Redis, descriptors, tasks, children, shared memory.
"""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Final

import httpx
from redis import Redis

from service.commands.bench_results import BenchFigure
from service.commands.bench_service import BenchedService, Video, scale_sample, served
from service.commands.process_figures import command_of, descendants, held
from tamvt_client import Client

if TYPE_CHECKING:
    from service.commands.bench import BenchArguments

MOST_SLOWER: Final = 0.05
MOST_RSS: Final = 0.02
MOST_OTHERS: Final = 2  # tasks and descriptors that may be on their way
SETTLE_S: Final = 2.0
APPEND: Final = 8


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


def soak(
    args: BenchArguments, *, threads: int, settle_s: float = SETTLE_S
) -> tuple[str, dict[str, BenchFigure], list[str]]:
    """Return a table, its figures, and what grew."""
    video, frames = scale_sample(args.size), args.frames or 10_000
    sessions = args.sessions or 2_000
    with served(threads=threads) as service:
        run_long(service, video, min(frames, 64))  # whatever grows once has grown
        run_short(service, video, sessions=2, frames=args.session_frames)
        before = holding(service, settle_s=settle_s)
        long = run_long(service, video, frames)
        between = holding(service, settle_s=settle_s)
        run_short(service, video, sessions=sessions, frames=args.session_frames)
        after = holding(service, settle_s=settle_s)
    window = max(1, len(long.clip_ms) // 10)
    early, late = (
        statistics.median(part) for part in (long.clip_ms[:window], long.clip_ms[-window:])
    )
    told = {
        "clip, ms": (early, late, MOST_SLOWER),
        f"RSS, MB, after {frames} frames": (long.rss_mb[0], long.rss_mb[-1], MOST_RSS),
        f"RSS, MB, after {sessions} sessions": (between.rss_mb, after.rss_mb, MOST_RSS),
        "Redis, MB, when all is deleted": (before.redis_mb, after.redis_mb, MOST_SLOWER),
    }
    rows = ["| what | before | after | change | at most |", "|---|---:|---:|---:|---:|"]
    grown, figures = list[str](), dict[str, BenchFigure]()
    for name, (first, last, most) in told.items():
        by = last / first - 1 if first else 0.0
        rows.append(f"| {name} | {first:.1f} | {last:.1f} | {by:+.1%} | {most:+.0%} |")
        figures[f"soak {name}"] = BenchFigure(round(1 + by, 4), "", "less")
        grown += [name] if by > most else []
    for name in ("descriptors", "tasks", "children", "regions"):
        first, last = getattr(before, name), getattr(after, name)
        most = MOST_OTHERS if name in ("descriptors", "tasks") else 0
        rows.append(f"| {name} | {first} | {last} | {last - first:+d} | {most:+d} |")
        grown += [name] if last - first > most else []
    stored = " ".join(f"{each:.2f}" for each in long.redis_mb)
    rows.append(f"\nRedis over the {frames} frames, in quarters: {stored} MB.")
    return "\n".join(rows), figures, grown
