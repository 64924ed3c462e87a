"""What Redis is sent and writes for a stream that commits at intervals, beside one clip by clip.

    python -m loadtests.redis_bytes.intervals [--seconds 20] [--fps 30] [--intervals 0.5 1 5]

One lossless stream of the built-in sample at 448x256 for each interval, one after the other, each
a new session on a service with a Redis of its own. Bytes are counted by Redis: those that came in
over its connections, and those that its append-only file grew by. The shares are those of bytes for
a frame: a busy machine does not track as many frames in each run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from loadtests.figures import percentile
from loadtests.gateways import gateway
from loadtests.load_video import LoadVideo
from loadtests.videos import play, sample_video
from service.local.private_redis import private_redis
from tamvt_client import AsyncClient, SessionOptions


@dataclass(frozen=True, slots=True)
class WrittenBytes:
    """What Redis has counted so far."""

    sent: int
    written: int


@dataclass(frozen=True, slots=True)
class IntervalFigures:
    """Of one stream: frames/s, kilobytes for each frame, and the 95th percentile of its latency."""

    fps: float
    sent_kb: float
    written_kb: float
    latency_ms: float


async def count_bytes(redis: Redis) -> WrittenBytes:
    """Ask Redis for its counters."""
    found = await redis.info("everything")
    return WrittenBytes(found["total_net_input_bytes"], found["aof_current_size"])


async def measure(
    url: str, redis: Redis, video: LoadVideo, args: argparse.Namespace, durable_s: float | None
) -> IntervalFigures:
    """Stream for so many seconds, and return what that wrote."""
    count = int(args.seconds * args.fps)

    async with AsyncClient(url) as client:
        options = SessionOptions(clip_length=args.clip_length)
        session = await client.start(video.frames[0], video.mask, options=options)
        before, begin = await count_bytes(redis), time.perf_counter()
        stream = client.stream(
            session.session_id, play(video, count, fps=args.fps), durable_s=durable_s
        )
        late_ms = [
            1e3 * time.perf_counter() - (masks.timestamp or 0) / 1e3 async for masks in stream
        ]
        after, seconds = await count_bytes(redis), time.perf_counter() - begin
    return IntervalFigures(
        fps=count / seconds,
        sent_kb=(after.sent - before.sent) / 1000 / count,
        written_kb=(after.written - before.written) / 1000 / count,
        latency_ms=percentile(late_ms, 0.95),
    )


async def compare(args: argparse.Namespace) -> None:
    """Print a row for a stream that commits each clip, and for each interval."""
    video = sample_video(objects=args.objects)
    print(f"load before: {os.getloadavg()[0]:.1f}")
    print("| commits | frames/s | to Redis | a frame | share | its file | share | latency p95 |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        async with private_redis(Path(folder)) as redis_url:
            with gateway(threads=args.threads, TAMVT_REDIS_URL=redis_url) as (url, _):
                async with Redis.from_url(redis_url) as redis:
                    await redis.config_set("auto-aof-rewrite-percentage", 0)
                    first: IntervalFigures | None = None
                    for durable_s in (None, *args.intervals):
                        found = await measure(url, redis, video, args, durable_s)
                        first = first or found
                        name = "each clip" if durable_s is None else f"every {durable_s:g} s"
                        print(
                            f"| {name} | {found.fps:.1f} | {found.sent_kb * found.fps:.0f} kB/s "
                            f"| {found.sent_kb:.2f} kB "
                            f"| {100 * found.sent_kb / first.sent_kb:.1f} % "
                            f"| {found.written_kb:.2f} kB "
                            f"| {100 * found.written_kb / first.written_kb:.1f} % "
                            f"| {found.latency_ms:.0f} ms |",
                            flush=True,
                        )


def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each stream")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--intervals", type=float, nargs="+", default=[0.5, 1.0, 5.0])
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--clip-length", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    asyncio.run(compare(parser.parse_args()))


if __name__ == "__main__":
    main()
