"""What a fork copies: bytes in Redis and milliseconds, beside the session that it comes from.

    python -m loadtests.redis_bytes.forks [--frames 400] [--objects 1] [--clip-length 2]

One session of the built-in sample at 448x256, forked as it is and at its middle. Bytes are those of
the session's values, as Redis counts them with each commit.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from itertools import islice
from pathlib import Path

from redis.asyncio import Redis

from loadtests.gateways import gateway
from loadtests.load_video import LoadVideo
from loadtests.videos import sample_video
from service.local.private_redis import private_redis
from tamvt_client import AsyncClient, SessionOptions

FRAMES_AT_ONCE = 32


async def measure(url: str, redis: Redis, video: LoadVideo, args: argparse.Namespace) -> None:
    """Print what a session holds, and what its forks hold."""

    async def show(name: str, session_id: str, took_ms: float) -> None:
        parts = [f"tamvt:{{{session_id}}}:{part}" for part in ("session", "entries", "masks")]
        stored = int(await redis.hget(parts[0], "bytes") or 0)
        masks = sum(map(len, await redis.hvals(parts[2])))
        kept = await redis.hlen(parts[2])
        entries = [name for name in await redis.hkeys(parts[1]) if name.isdigit()]
        print(
            f"| {name} | {stored / 1000:.0f} kB | {len(entries)} | {kept} | {masks / 1000:.0f} kB "
            f"| {took_ms:.0f} ms |",
            flush=True,
        )

    async with AsyncClient(url) as client:
        options = SessionOptions(clip_length=args.clip_length)
        session = await client.start(video.frames[0], video.mask, options=options)
        images = islice(video.endless(), args.frames)
        for first in range(1, args.frames + 1, FRAMES_AT_ONCE):
            chunk = list(islice(images, FRAMES_AT_ONCE))
            await client.append(session.session_id, chunk, first_frame=first)
        print("| what | bytes | entries | frames with masks | bytes of masks | took |")
        print("|---|---|---|---|---|---|")
        await show(f"the session, {args.frames} frames", session.session_id, 0.0)
        for name, at in (("a fork of it as it is", None), ("one at its middle", args.frames // 2)):
            begin = time.perf_counter()
            fork = await client.fork(session.session_id, at=at)
            await show(name, fork.session_id, 1000 * (time.perf_counter() - begin))


async def run(args: argparse.Namespace) -> None:
    """Measure on a service with a Redis of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with private_redis(Path(folder)) as redis_url:
            with gateway(threads=args.threads, TAMVT_REDIS_URL=redis_url) as (url, _):
                async with Redis.from_url(redis_url) as redis:
                    await measure(url, redis, sample_video(objects=args.objects), args)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument("--clip-length", type=int, default=None)
    parser.add_argument("--threads", type=int, default=1)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
