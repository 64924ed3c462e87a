"""What the gateway adds to the engine, over REST and over the stream.

    python -m loadtests.stream throughput [--threads 1] [--frames 400]
    python -m loadtests.stream latest [--seconds 300] [--fps 30] [--objects 8] [--clip-length 1]
    python -m loadtests.stream idle [--connections 50] [--seconds 60]

Each scenario starts the service with a private Redis in a process of its own and sends the
built-in sample, scaled to 448x256, over and over. `throughput` first measures the engine alone,
in this process, with as many threads; CPU is that of the gateway's process, without Redis and
without the client. On a machine that is busy otherwise the two rates are not comparable: `busy`,
the share of the stream's time that the engine spent on its clips, is.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice

import psutil

from loadtests.gateways import cpu_s, gateway
from loadtests.load_video import LoadVideo
from loadtests.videos import SIZE, play, sample_video
from service.commands.steady_session import SteadySession, scale_sample_footage
from service.engines.embedded import embedded_engine
from service.server.malloc import keep_large_blocks
from service.settings import read_settings
from tamvt_client import AsyncClient, Client, SessionOptions

WARM_UP = 40  # frames: the memory is full


async def engine_alone(*, threads: int, clips: int) -> tuple[float, float]:
    """Frames/s of the engine, and its milliseconds of CPU for a frame."""
    settings = read_settings()
    async with embedded_engine(
        settings.weights, settings.served_models[0], threads=threads
    ) as engine:
        spec = engine.spec  # the sessions have its defaults too
        session = SteadySession(
            engine,
            scale_sample_footage(SIZE),
            objects=1,
            clip_length=spec.clip_length,
            memory_size=spec.memory_size,
        )
        await session.fill()
        begin, cpu = time.perf_counter(), time.process_time()
        for _ in range(clips):
            await session.clip_ms()
        seconds = time.perf_counter() - begin
        frames = spec.clip_length * clips
        return frames / seconds, 1000 * (time.process_time() - cpu) / frames


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """Frames/s, the gateway's milliseconds of CPU for a frame, and the engine's share of time."""

    fps: float
    cpu_ms: float
    busy: float


def over_stream(url: str, process: psutil.Process, video: LoadVideo, frames: int) -> StreamFigures:
    """One lossless stream."""
    with Client(url) as client:
        session = client.start(video.frames[0], video.mask)
        source = islice(video.endless(), WARM_UP + frames)
        begin = cpu = inference_ms = 0.0
        for masks in client.stream(session.session_id, source, max_wait_ms=1000):
            if masks.frame == WARM_UP:
                begin, cpu, inference_ms = time.perf_counter(), cpu_s(process), 0.0
            inference_ms += masks.timing["inference_ms"] / session.clip_length
        seconds = time.perf_counter() - begin
        cpu_ms = 1000 * (cpu_s(process) - cpu) / frames
        return StreamFigures(frames / seconds, cpu_ms, inference_ms / 1000 / seconds)


def over_rest(url: str, process: psutil.Process, video: LoadVideo, frames: int) -> StreamFigures:
    """The same with appends of eight frames."""
    with Client(url) as client:
        session = client.start(video.frames[0], video.mask).session_id
        source = video.endless()
        begin = cpu = inference_ms = 0.0
        for first in range(1, WARM_UP + frames + 1, 8):
            if first == WARM_UP + 1:
                begin, cpu, inference_ms = time.perf_counter(), cpu_s(process), 0.0
            answer = client.append(session, list(islice(source, 8)), first_frame=first)
            inference_ms += answer.timing["inference_ms"]
        seconds = time.perf_counter() - begin
        cpu_ms = 1000 * (cpu_s(process) - cpu) / frames
        return StreamFigures(frames / seconds, cpu_ms, inference_ms / 1000 / seconds)


def throughput(args: argparse.Namespace) -> None:
    """One session as fast as it goes."""
    video = sample_video()
    print("| what | frames/s | of the engine | busy | CPU ms/frame | beyond the engine |")
    print("|---|---|---|---|---|---|")
    for _ in range(args.rounds):
        alone_fps, alone_ms = asyncio.run(
            engine_alone(threads=args.threads, clips=args.frames // 2)
        )
        print(f"| engine alone | {alone_fps:.1f} | | | {alone_ms:.1f} | |", flush=True)
        with gateway(threads=args.threads) as (url, process):
            for name, measure in (("stream", over_stream), ("REST", over_rest)):
                found = measure(url, process, video, args.frames)
                print(
                    f"| {name} | {found.fps:.1f} | {100 * found.fps / alone_fps:.0f} % "
                    f"| {100 * found.busy:.0f} % | {found.cpu_ms:.1f} "
                    f"| {found.cpu_ms - alone_ms:.1f} |",
                    flush=True,
                )


async def _latest(url: str, video: LoadVideo, args: argparse.Namespace) -> None:
    """Latency of each answered frame, from the client's sending to its masks, by thirds."""
    count = int(args.seconds * args.fps)
    found: list[tuple[float, float, float]] = []  # sent at, latency ms, clip ms

    async with AsyncClient(url) as client:
        options = SessionOptions(clip_length=args.clip_length)
        session = await client.start(video.frames[0], video.mask, options=options)
        before = [found async for found in client.track(session.session_id, _warm_up(video))]
        stream = client.stream(
            session.session_id,
            play(video, count, fps=args.fps),
            mode="latest",
            first_frame=len(before) + 1,
        )
        async for masks in stream:
            sent = (masks.timestamp or 0) / 1e6
            latency = 1000 * (time.perf_counter() - sent)
            found.append((sent, latency, masks.timing["inference_ms"]))
    _print_latency(found, seconds=args.seconds, sent=count)


async def _warm_up(video: LoadVideo) -> AsyncIterator[bytes]:
    for image in islice(video.endless(), WARM_UP):
        yield image


def _print_latency(found: list[tuple[float, float, float]], *, seconds: float, sent: int) -> None:
    begin = found[0][0]
    print(f"{sent} frames sent, {len(found)} answered, {len(found) / seconds:.1f} frames/s")
    print("| part | frames | clip time p50 ms | latency p50 ms | p95 ms | max ms | over 2 clips |")
    print("|---|---|---|---|---|---|---|")
    for part in range(3):
        low, high = begin + part * seconds / 3, begin + (part + 1) * seconds / 3
        rows = [row for row in found if low <= row[0] < high]
        latency = sorted(row[1] for row in rows)
        clip = statistics.median(row[2] for row in rows)
        over = sum(value > 2 * clip for value in latency)
        p95 = latency[int(0.95 * len(latency))]
        print(
            f"| {part + 1} | {len(rows)} | {clip:.0f} | {statistics.median(latency):.0f} "
            f"| {p95:.0f} | {latency[-1]:.0f} | {over} |"
        )


def latest(args: argparse.Namespace) -> None:
    """A camera that is faster than the engine."""
    video = sample_video(objects=args.objects)
    with gateway(threads=1) as (url, _):
        asyncio.run(_latest(url, video, args))


async def _idle(
    url: str, process: psutil.Process, video: LoadVideo, args: argparse.Namespace
) -> None:
    async with AsyncClient(url) as client:
        for _ in range(8):  # whatever grows once has grown
            session = await client.start(video.frames[0], video.mask)
            await client.append(session.session_id, video.frames[1:9], first_frame=1)
        sessions = [
            (await client.start(video.frames[0], video.mask)).session_id
            for _ in range(args.connections)
        ]
        left = threading.Event()

        async def mostly_idle() -> AsyncIterator[bytes]:
            for image in video.frames[1:3]:
                yield image
            while not left.is_set():  # noqa: ASYNC110
                await asyncio.sleep(1)

        async def stream(session: str, answered: asyncio.Event) -> None:
            async for _ in client.stream(session, mostly_idle(), max_wait_ms=1000):
                answered.set()

        before = process.memory_info().rss
        streams = []
        for session_id in sessions:
            answered = asyncio.Event()
            streams.append(asyncio.create_task(stream(session_id, answered)))
            await answered.wait()
        after, cpu = process.memory_info().rss, cpu_s(process)
        await asyncio.sleep(args.seconds)
        share = (cpu_s(process) - cpu) / args.seconds
        left.set()
        await asyncio.gather(*streams)
    each = (after - before) / args.connections / 1e6
    print(f"{args.connections} connections: {each:.2f} MB each, ", end="")
    print(f"{100 * share:.2f} % of a processor")


def idle(args: argparse.Namespace) -> None:
    """Connections on which nothing happens; banks have a bound of their own, here a few of them."""
    video = sample_video()
    with gateway(threads=1, TAMVT_BANK_BYTES="50000000") as (url, process):
        asyncio.run(_idle(url, process, video, args))


def main() -> None:
    """Runs the scenario that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scenarios = parser.add_subparsers(required=True)
    fast = scenarios.add_parser("throughput")
    fast.set_defaults(run=throughput)
    fast.add_argument("--threads", type=int, default=1, help="of the engine")
    fast.add_argument("--frames", type=int, default=400)
    fast.add_argument("--rounds", type=int, default=1)
    live = scenarios.add_parser("latest")
    live.set_defaults(run=latest)
    live.add_argument("--seconds", type=float, default=300)
    live.add_argument("--fps", type=float, default=30)
    live.add_argument("--clip-length", type=int, default=1)
    live.add_argument("--objects", type=int, default=1, help="more make the engine slower")
    quiet = scenarios.add_parser("idle")
    quiet.set_defaults(run=idle)
    quiet.add_argument("--connections", type=int, default=50)
    quiet.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    keep_large_blocks()
    args.run(args)


if __name__ == "__main__":
    main()
