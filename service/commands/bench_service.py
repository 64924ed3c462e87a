"""`tamvt bench service`: what the gateway adds to the engine, over REST and streams.

The services run side by side and are measured in turns with the engine alone, each with the same
threads: what disturbs the machine meets all of them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from model.core.palette import write_label_map
from service.commands.bench_results import BenchFigure, share
from service.commands.process_figures import command_of, cpu_s, descendants
from service.commands.steady_session import (
    SteadySession,
    cut_into_strips,
    scale_sample_footage,
)
from service.engines.base import Engine
from service.errors import Misconfigured
from service.local.private_service import private_service
from service.media.images import encode_jpeg
from service.media.sample import draw_sample
from tamvt_client import Client

if TYPE_CHECKING:
    from service.commands.bench import BenchArguments

FRAMES_AN_APPEND = 16
Video = tuple[list[bytes], bytes]  # the frames as JPEG, and the mask of the first as PNG


@dataclass(frozen=True, slots=True)
class BenchedService:
    """A running service and the process that started all of it."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Return what the service has computed, without its Redis."""
        family = [self.pid, *descendants(self.pid)]
        return sum(cpu_s(each) for each in family if "valkey-server" not in command_of(each))


@dataclass(slots=True)
class Rounds:
    """Frames a second and milliseconds of CPU for a frame, of each round."""

    fps: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    evenness: list[float] = field(default_factory=list)  # the slowest of several, of their mean

    def add(self, frames: int, *, seconds: float, cpu_seconds: float) -> None:
        """Add a round."""
        self.fps.append(frames / seconds)
        self.cpu_ms.append(1000 * cpu_seconds / frames)


def scale_sample(size: tuple[int, int], *, objects: int = 1) -> Video:
    """Return the built-in sample at this size (h, w); its object is cut into as many strips."""
    return scale_video(draw_sample(), size, objects=objects)


def scale_video(
    pictures: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    size: tuple[int, int],
    *,
    objects: int,
) -> Video:
    """Return pictures at this size (h, w), and what the first labels show, cut into strips."""
    height, width = size
    frames, mask = [], b""
    for picture, labels in pictures:
        scaled = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
        frames.append(encode_jpeg(np.asarray(scaled, np.uint8)))
        if not mask:
            small = cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST)
            strips = cut_into_strips((np.asarray(small) > 0).astype(np.uint8), objects)
            ids = np.arange(1, objects + 1, dtype=np.uint8)[:, None, None]
            mask = write_label_map((ids * strips).max(axis=0))
    return frames, mask


@contextmanager
def served(
    *, threads: int, workers: int = 1, settings: Mapping[str, str] | None = None
) -> Iterator[BenchedService]:
    """Run a service with a private Redis until the block is left."""
    own = {"TAMVT_ENGINE_THREADS": str(threads), **(settings or {})}
    before = set(descendants(os.getpid()))
    with (
        tempfile.TemporaryDirectory(prefix="tamvt-bench-") as folder,
        private_service(Path(folder), settings=own, workers=workers) as url,
    ):
        started = [each for each in descendants(os.getpid()) if each not in before]
        serving = [each for each in started if " serve " in f"{command_of(each)} "]
        if not serving:
            raise Misconfigured("the service's process is not found")
        yield BenchedService(url, serving[0])


def read_runtime(url: str) -> str:
    """Return what runs a service's default model, and in which precision."""
    with Client(url) as client:
        return client.models()[0].runtime


async def bench_service(
    args: BenchArguments, engine: Engine, *, threads: int
) -> tuple[str, dict[str, BenchFigure]]:
    """Return a table and its figures."""
    video = scale_sample(args.size)
    alone = SteadySession(
        engine,
        scale_sample_footage(args.size),
        objects=1,
        clip_length=engine.spec.clip_length,
        memory_size=engine.spec.memory_size,
    )
    await alone.fill()
    frames, streams = args.frames or 160, args.sessions or 8
    found: dict[str, Rounds] = {"engine alone": Rounds()}
    with ExitStack() as stack:
        services = {
            f"{workers} worker{'s' * (workers > 1)}": stack.enter_context(
                served(threads=threads, workers=workers)
            )
            for workers in args.workers
        }
        for name, own in start_triton(args.triton_repository, stack).items():
            services[name] = stack.enter_context(served(threads=threads, settings=own))
        for _ in range(args.rounds):
            begin, cpu = time.perf_counter(), time.process_time()
            for _ in range(frames // engine.spec.clip_length):
                await alone.clip_ms()
            found["engine alone"].add(
                frames,
                seconds=time.perf_counter() - begin,
                cpu_seconds=time.process_time() - cpu,
            )
            for name, service in services.items():
                for over, track in (("REST", over_rest), ("WebSocket", over_stream)):
                    measured = found.setdefault(f"{over}, {name}", Rounds())
                    track(service, video, frames, measured)
                sessions = found.setdefault(f"{streams} streams, {name}", Rounds())
                at_once(service, video, frames, sessions, sessions=streams)
    return write_service_table(found)


def start_triton(repository: Path | None, stack: ExitStack) -> dict[str, dict[str, str]]:
    """Start a Triton on a repository, if one is named; return the settings of its services."""
    if repository is None:
        return {}
    from service.local.triton import local_triton

    server = stack.enter_context(local_triton(repository))
    common = {"TAMVT_ENGINE": "triton", "TAMVT_TRITON_URL": server.url}
    return {
        "Triton, shared memory": {**common, "TAMVT_TRITON_SHARED_MEMORY": "true"},
        "Triton, inline": {**common, "TAMVT_TRITON_SHARED_MEMORY": "false"},
    }


def over_rest(service: BenchedService, video: Video, frames: int, measured: Rounds) -> None:
    """Append 16 frames at a time to a session, whose memory is full before it counts."""
    images, mask = video
    with Client(service.url) as client:
        started = client.start(images[0], mask)
        source = cycle(images[1:])
        first, full = 1, started.memory_size * started.clip_length
        begin = cpu = 0.0
        while first <= full + frames:
            if not begin and first > full:
                begin, cpu, counted = time.perf_counter(), service.cpu_s(), first
            sent = list(islice(source, FRAMES_AN_APPEND))
            first = client.append(started.session_id, sent, first_frame=first).next_frame
        measured.add(
            first - counted,
            seconds=time.perf_counter() - begin,
            cpu_seconds=service.cpu_s() - cpu,
        )
        client.delete(started.session_id)


def over_stream(service: BenchedService, video: Video, frames: int, measured: Rounds) -> None:
    """Send a lossless stream as fast as it is taken."""
    cpu, begin = 0.0, 0.0
    for number, full in stream_frames(service.url, video, frames):
        if number == full:
            begin, cpu = time.perf_counter(), service.cpu_s()
    measured.add(frames, seconds=time.perf_counter() - begin, cpu_seconds=service.cpu_s() - cpu)


def stream_frames(url: str, video: Video, frames: int) -> Iterator[tuple[int, int]]:
    """Yield the number of each answered frame of a new session, and that of the first to count."""
    images, mask = video
    with Client(url) as client:
        started = client.start(images[0], mask)
        full = started.memory_size * started.clip_length
        source = islice(cycle(images[1:]), full + frames)
        for masks in client.stream(started.session_id, source, max_wait_ms=1000):
            yield masks.frame, full
        client.delete(started.session_id)


def at_once(
    service: BenchedService, video: Video, frames: int, measured: Rounds, *, sessions: int
) -> None:
    """Send several lossless streams at once; their warm-up counts, for all alike."""
    begin, cpu, each = time.perf_counter(), service.cpu_s(), max(1, frames // sessions)

    def stream() -> tuple[int, float]:
        """Return how many frames were answered, and how many a second."""
        answered = len(list(stream_frames(service.url, video, each)))
        return answered, answered / (time.perf_counter() - begin)

    with ThreadPoolExecutor(sessions) as pool:
        runs = [pool.submit(stream) for _ in range(sessions)]
        counts, rates = zip(*(run.result() for run in runs), strict=True)
    measured.add(
        sum(counts), seconds=time.perf_counter() - begin, cpu_seconds=service.cpu_s() - cpu
    )
    measured.evenness.append(min(rates) / statistics.fmean(rates))


def write_service_table(found: Mapping[str, Rounds]) -> tuple[str, dict[str, BenchFigure]]:
    """Return the medians of the rounds, beside the engine's of the same round."""
    alone, figures = found["engine alone"], dict[str, BenchFigure]()
    rows = [
        "| what | frames/s | of the engine | slowest of the mean | CPU, ms a frame "
        "| beyond the engine |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, measured in found.items():
        fps, cpu_ms = statistics.median(measured.fps), statistics.median(measured.cpu_ms)
        ratio = statistics.median(
            ours / bare for ours, bare in zip(measured.fps, alone.fps, strict=True)
        )
        beyond_ms = statistics.median(
            ours - bare for ours, bare in zip(measured.cpu_ms, alone.cpu_ms, strict=True)
        )
        figures[f"{name}, frames/s"] = BenchFigure(round(fps, 2), "", "more")
        if measured is alone:
            rows.append(f"| {name} | {fps:.1f} | | | {cpu_ms:.1f} | |")
            continue
        figures[f"{name}, of the engine"] = share(ratio)
        times = statistics.median(
            ours / bare for ours, bare in zip(measured.cpu_ms, alone.cpu_ms, strict=True)
        )
        figures[f"{name}, CPU to the engine's"] = BenchFigure(round(times, 4), "", "less")
        even = ""
        if measured.evenness:
            slowest = statistics.median(measured.evenness)
            figures[f"{name}, slowest of the mean"] = share(slowest)
            even = f"{slowest:.2f}"
        rows.append(
            f"| {name} | {fps:.1f} | {ratio:.2f} | {even} | {cpu_ms:.1f} | {beyond_ms:+.1f} |"
        )
    return "\n".join(rows), figures
