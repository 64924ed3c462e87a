"""What a tenant loses beside another one that sends five times its limit.

    python -m loadtests.fairness [--limit 8] [--seconds 20] [--rounds 3] [--greedy 5]

A service of our own limits each tenant to `--limit` frames/s (0: none, so that the engine's fair
queue is alone). One tenant has a single stream of as many frames a second; the other has `--greedy`
such streams at once. In each round the first streams alone, and then beside the other, for
`--seconds` each. Print frames/s of both, and what the first has lost. The limit has to be less than
half of what the machine tracks in a second: more is nobody's share.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loadtests.gateways import gateway
from loadtests.load_video import LoadVideo
from loadtests.videos import play, sample_video
from service.access.key_stores import KeyFile
from service.access.keys import Scope, make_key
from tamvt_client import AsyncClient

UNLIMITED_FPS = 30.0  # what a stream sends where there is no limit


async def stream(client: AsyncClient, video: LoadVideo, *, fps: float, seconds: float) -> int:
    """How many frames of one stream have their masks after so many seconds."""
    session = await client.start(video.frames[0], video.mask)
    answered = 0
    try:
        async with asyncio.timeout(seconds):
            frames = play(video, int(fps * seconds), fps=fps)
            async for _ in client.stream(session.session_id, frames, first_frame=1):
                answered += 1
    except TimeoutError:
        pass
    await client.delete(session.session_id)
    return answered


@contextmanager
def two_clients(limit: float) -> Iterator[tuple[str, str, str, str]]:
    """The URL of a service, the keys of two tenants, and one that may read its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "keys.json"
        texts = []
        given: dict[str, list[Scope]] = {
            "modest": ["read", "write"],
            "greedy": ["read", "write"],
            "watch": ["admin"],
        }
        for tenant, scopes in given.items():
            text, kept = make_key(tenant, scopes)
            asyncio.run(KeyFile(path).put(kept))
            texts.append(text)
        settings = {"TAMVT_KEYS": str(path), "TAMVT_TENANT_FRAMES_PER_S": str(limit)}
        with gateway(threads=2, TAMVT_MAX_QUEUE_S="0", **settings) as (url, _):
            yield url, texts[0], texts[1], texts[2]


async def measure(
    url: str, modest_key: str, greedy_key: str, options: argparse.Namespace
) -> tuple[list[float], list[float], list[float]]:
    """Frames/s of the modest tenant alone and beside the other, and those of the other."""
    video, seconds = sample_video(), options.seconds
    fps = options.limit or UNLIMITED_FPS
    alone, beside, greedy = [], [], []
    async with (
        AsyncClient(url, key=modest_key) as modest_client,
        AsyncClient(url, key=greedy_key) as greedy_client,
    ):
        await stream(modest_client, video, fps=fps, seconds=5)  # warm
        for _ in range(options.rounds):
            mine = await stream(modest_client, video, fps=fps, seconds=seconds)
            alone.append(mine / seconds)
            mine, *others = await asyncio.gather(
                stream(modest_client, video, fps=fps, seconds=seconds),
                *(
                    stream(greedy_client, video, fps=fps, seconds=seconds)
                    for _ in range(options.greedy)
                ),
            )
            beside.append(mine / seconds)
            greedy.append(sum(others) / seconds)
            print(f"alone {alone[-1]:.1f}, beside {beside[-1]:.1f}, other {greedy[-1]:.1f}")
    return alone, beside, greedy


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--limit", type=float, default=8.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--greedy", type=int, default=5)
    options = parser.parse_args()
    with two_clients(options.limit) as (url, modest_key, greedy_key, _):
        alone, beside, greedy = asyncio.run(measure(url, modest_key, greedy_key, options))
    before, after = statistics.median(alone), statistics.median(beside)
    print(f"frames/s of the first tenant: alone {before:.1f}, beside the other {after:.1f}")
    print(f"frames/s of the other: {statistics.median(greedy):.1f}")
    print(f"lost: {100 * (1 - after / before):.1f} %")


if __name__ == "__main__":
    main()
