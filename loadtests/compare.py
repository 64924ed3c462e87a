"""Compare what two checkouts cost per frame, in turns, so that a busy machine meets both alike.

    python -m loadtests.compare ../before [--rounds 5] [--set TAMVT_MODEL=toy ...]

A service of each checkout runs with a private Redis. In each round both get the same appends of 16
frames and the same stream of 100 frames, and their engines alone run as many clips. `overhead` is
the time that is not the engine's own (`inference_ms` of the answers), `cpu` that of the process.
`--set` gives both services further settings: with a model that costs almost nothing the overhead
is seen best. The checkouts share this Python's packages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import websockets

from loadtests.gateways import HERE, ServedGateway, running_gateway, running_python
from loadtests.load_video import LoadVideo
from loadtests.videos import sample_video
from tamvt_client import wire

IMAGES, APPENDS, STREAMED = 16, 6, 100
TURNS_A_ROUND = 5
# Runs in either checkout: for each line it reads, five clips of a session with a full bank.
ENGINE = """
import asyncio, sys, time
try:
    from service.commands.steady_session import SteadySession, scale_sample_footage
except ImportError:  # an older checkout
    from service.commands.bench import SteadySession, sample_footage as scale_sample_footage
from service.engines.embedded import embedded_engine
from service.settings import read_settings

async def main():
    settings, footage = read_settings(), scale_sample_footage((256, 448))
    name = settings.served_models[0] if hasattr(settings, "served_models") else settings.model
    async with embedded_engine(settings.weights, name, threads=1) as engine:
        slots = engine.spec.memory_size  # as the sessions have it
        session = SteadySession(engine, footage, objects=1, clip_length=2, memory_size=slots)
        await session.fill()
        for _ in sys.stdin:
            before = time.process_time()
            wall = sorted([await session.clip_ms() for _ in range(5)])[2]
            print(wall / 2, 1000 * (time.process_time() - before) / 10, flush=True)

asyncio.run(main())
"""


Both = tuple[ServedGateway, subprocess.Popen[str]]


@contextmanager
def running(checkout: Path, settings: Mapping[str, str]) -> Iterator[Both]:
    """Run the service of a checkout, and its engine alone in a process of its own."""
    with (
        running_gateway(checkout=checkout, settings=settings) as gateway,
        running_python(("-c", ENGINE), checkout=checkout, settings=settings) as engine,
    ):
        yield gateway, engine


def measure_engine(engine: subprocess.Popen[str]) -> dict[str, float]:
    """Return milliseconds per frame of the engine alone, with one thread."""
    assert engine.stdin is not None
    assert engine.stdout is not None
    turns = []
    for _ in range(TURNS_A_ROUND):
        engine.stdin.write("\n")
        engine.stdin.flush()
        turns.append([float(word) for word in engine.stdout.readline().split()])
    wall, cpu = (statistics.median(values) for values in zip(*turns, strict=True))
    return {"engine wall": wall, "engine cpu": cpu}


def measure_appends(gateway: ServedGateway, video: LoadVideo) -> dict[str, float]:
    """Return milliseconds per frame of appends; the first one is not counted."""
    session, _ = gateway.start(video)
    images, walls, overheads = video.endless(), [], []
    before = gateway.cpu_ms()
    for number in range(APPENDS):
        files = [("frames", ("0.jpg", next(images), "image/jpeg")) for _ in range(IMAGES)]
        query = {"first_frame": 1 + IMAGES * number}
        began = time.perf_counter()
        answer = gateway.http.post(f"/v1/sessions/{session}/clips", params=query, files=files)
        wall_ms = 1000 * (time.perf_counter() - began)
        engine_ms = answer.raise_for_status().json()["timing"]["inference_ms"]
        walls.append(wall_ms / IMAGES)
        overheads.append((wall_ms - engine_ms) / IMAGES)
    gateway.http.delete(f"/v1/sessions/{session}")
    return {
        "REST wall": statistics.median(walls[1:]),
        "REST overhead": statistics.median(overheads[1:]),
        "REST cpu": (gateway.cpu_ms() - before) / (APPENDS * IMAGES),
    }


async def measure_stream(gateway: ServedGateway, video: LoadVideo) -> dict[str, float]:
    """Return milliseconds per frame of one lossless stream."""
    session, clip_length = gateway.start(video)
    images, engine_ms = video.endless(), 0.0
    before, url = gateway.cpu_ms(), gateway.url.replace("http", "ws", 1)
    credential = gateway.http.headers.get("Authorization")
    async with websockets.connect(
        f"{url}/v1/sessions/{session}/stream",
        subprotocols=[websockets.Subprotocol(wire.SUBPROTOCOL)],
        max_size=None,
        compression=None,
        proxy=None,
        additional_headers={"Authorization": credential} if credential else None,
    ) as socket:
        credits = asyncio.Semaphore(json.loads(await socket.recv())["credits"])

        async def send() -> None:
            for number in range(1, STREAMED + 1):
                await credits.acquire()
                image = wire.ImageMessage(number, number, next(images))
                await socket.send(wire.write_image(image, kind=wire.FRAME))

        began = time.perf_counter()
        sending = asyncio.create_task(send())
        for _ in range(STREAMED):
            masks = json.loads(await socket.recv())
            engine_ms += masks["timing"]["inference_ms"] / clip_length
            credits.release()
        wall_ms = 1000 * (time.perf_counter() - began)
        await sending
    gateway.http.delete(f"/v1/sessions/{session}")
    return {
        "stream wall": wall_ms / STREAMED,
        "stream overhead": (wall_ms - engine_ms) / STREAMED,
        "stream cpu": (gateway.cpu_ms() - before) / STREAMED,
    }


def main() -> None:
    """Print a table: medians of both, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    settings = dict(item.split("=", 1) for item in args.set)
    video, rounds = sample_video(), []
    with (
        running(args.before.resolve(), settings) as before,
        running(HERE, settings) as now,
    ):
        for number in range(args.rounds + 1):
            found = {}
            for gateway, engine in (before, now) if number % 2 else (now, before):
                streamed = asyncio.run(measure_stream(gateway, video))
                appended = measure_appends(gateway, video)
                found[gateway.url] = {**measure_engine(engine), **appended, **streamed}
            rounds.append((found[before[0].url], found[now[0].url]))
    print("| ms per frame | before | now | ratio | of the rounds |\n|---|---:|---:|---:|---:|")
    for name in rounds[0][0]:
        pairs = [(old[name], new[name]) for old, new in rounds[1:]]  # the first one warms up
        old, new = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(after / earlier for earlier, after in pairs)
        print(f"| {name} | {old:.2f} | {new:.2f} | {new / old:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
