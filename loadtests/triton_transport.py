"""What it costs to have the model in a Triton on this host: tensor transport, and a rebuild.

    python -m loadtests.triton_transport [--threads 0] [--clips 40]

No decoding, no Redis, no HTTP: the engine alone, on one made-up session with a full memory. A
clip's time is the engine's, until the masks are here; the model's is what Triton says it computed.
The rest is transport: shared memory or gRPC, and the copies of Triton's Python backend.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient

from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import Memory
from model.export.triton.repository import write_repository
from service.engines.base import BankLease, Engine, EntryPicture
from service.engines.embedded import embedded_engine
from service.engines.triton.engine import HOST_MEMORY, triton_engine
from service.local.triton import local_triton
from service.server.malloc import keep_large_blocks

NAME = "tamvt-mobile"
LENGTH = 2
COUNT_S = 10.0  # for Triton to count a clip that it has answered


class TransportSession:
    """One session with one object, whose memory is full."""

    def __init__(self, size: tuple[int, int], *, slots: int) -> None:
        random = np.random.default_rng(0)
        self.size, self.version = size, 1
        self.frames = random.integers(0, 255, (LENGTH, *size, 3), np.uint8)
        self.memory = Memory.start(0, [1], capacity=slots)
        for frame in range(1, slots):
            self.memory = self.memory.remember(frame, [1])
        mask = np.zeros((1, *size), np.uint8)
        mask[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = 255
        self.picture = EntryPicture(self.frames[0], mask)
        self.masks: NDArray[np.uint8] = mask

    async def pictures(self) -> Sequence[EntryPicture]:
        return [self.picture] * len(self.memory.entries)

    def lease(self, engine: Engine) -> AbstractAsyncContextManager[BankLease]:
        return engine.lease(
            "loadtest",
            version=self.version,
            memory=self.memory,
            model_size=self.size,
            pictures=self.pictures,
        )

    async def clip_ms(self, engine: Engine) -> float:
        """The time of one clip, committed and remembered."""
        after = self.memory.remember(self.memory.newest.frame + LENGTH, [1])
        started_at = time.perf_counter()
        async with self.lease(engine) as bank:
            answer = await bank.segment(self.frames, before=self.memory, object_ids=[1])
            await bank.remember(after)
            self.version += 1
            bank.commit(self.version)
        self.memory, self.masks = after, answer.masks
        return (time.perf_counter() - started_at) * 1000


async def median_ms(session: TransportSession, engine: Engine, *, clips: int) -> float:
    """The median time of a clip, the first ones left out."""
    for _ in range(3):
        await session.clip_ms(engine)
    return statistics.median([await session.clip_ms(engine) for _ in range(clips)])


async def rebuilt_ms(session: TransportSession, engine: Engine, *, times: int = 5) -> float:
    """The median time of a clip whose bank has to be rebuilt first."""
    found = []
    for _ in range(times):
        await engine.discard("loadtest")
        found.append(await session.clip_ms(engine))
    return statistics.median(found)


async def computed(client: InferenceServerClient) -> tuple[int, float]:
    """How many clips Triton's model has counted so far, and for how many milliseconds."""
    answer = await client.get_inference_statistics(f"{NAME}_segment")
    counted = answer.model_stats[0].inference_stats.compute_infer
    return int(counted.count), float(counted.ns / 1e6)


async def computed_after(client: InferenceServerClient, clips: int) -> float:
    """The same milliseconds once so many clips are counted: Triton answers before it counts."""
    async with asyncio.timeout(COUNT_S):
        while True:
            count, ms = await computed(client)
            if count >= clips:
                return ms
            await asyncio.sleep(0.001)


async def parts_ms(
    session: TransportSession, engine: Engine, client: InferenceServerClient, *, clips: int
) -> tuple[float, float]:
    """The median times of a clip, and of what the model computed of it."""
    count, _ = await computed(client)
    await median_ms(session, engine, clips=1)
    counted = count + 4  # with the three that are left out
    before_ms = await computed_after(client, counted)
    found = []
    for _ in range(clips):
        clip_ms = await session.clip_ms(engine)
        counted += 1
        after_ms = await computed_after(client, counted)
        found.append((clip_ms, after_ms - before_ms))
        before_ms = after_ms
    whole_ms = statistics.median(clip for clip, _ in found)
    rest_ms = statistics.median(clip - model for clip, model in found)
    return whole_ms, whole_ms - rest_ms


async def measure(url: str, *, threads: int, clips: int) -> None:
    """Prints what was measured."""
    client = InferenceServerClient(url)
    async with embedded_engine(SHIPPED_WEIGHTS, NAME, threads=threads) as embedded:
        spec = embedded.spec
        session = TransportSession(spec.buckets.sizes[0], slots=spec.memory_size)
        alone_ms = await median_ms(session, embedded, clips=clips)
        expected = session.masks
        rebuild_ms = await rebuilt_ms(session, embedded) - alone_ms
        say("embedded", f"{alone_ms:.1f} ms a clip, rebuild {rebuild_ms:.0f} ms")
    for shared in (True, False):
        async with triton_engine(url, NAME, memory=HOST_MEMORY if shared else None) as engine:
            session = TransportSession(spec.buckets.sizes[0], slots=spec.memory_size)
            clip_ms, model_ms = await parts_ms(session, engine, client, clips=clips)
            rest_ms = clip_ms - model_ms
            say(
                "shared memory" if shared else "inline",
                f"{clip_ms:.1f} ms a clip, of which the model {model_ms:.1f}: "
                f"transport {rest_ms:.1f} ms, {rest_ms / clip_ms:.1%}",
            )
            rebuild_ms = await rebuilt_ms(session, engine) - clip_ms
            say(
                "",
                f"rebuild of {spec.memory_size} entries {rebuild_ms:.0f} ms; "
                f"N + 1 clips take {(spec.memory_size + 1) * clip_ms:.0f} ms",
            )
            await equal(engine, expected, clips=clips)
    await client.close()


async def equal(engine: Engine, expected: NDArray[np.uint8], *, clips: int) -> None:
    """Says whether this engine gives the bits of the embedded one."""
    await engine.discard("loadtest")
    session = TransportSession(engine.spec.buckets.sizes[0], slots=engine.spec.memory_size)
    for _ in range(clips + 3):
        await session.clip_ms(engine)
    say("", f"masks equal to the embedded engine's: {bool((session.masks == expected).all())}")


def say(what: str, told: str) -> None:
    sys.stdout.write(f"{what:14}{told}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=0, help="of one inference; 0: all")
    parser.add_argument("--clips", type=int, default=40, help="how many are timed")
    arguments = parser.parse_args()
    keep_large_blocks()
    with tempfile.TemporaryDirectory() as folder:
        write_repository(SHIPPED_WEIGHTS, NAME, Path(folder), threads=arguments.threads)
        with local_triton(Path(folder)) as server:
            asyncio.run(measure(server.url, threads=arguments.threads, clips=arguments.clips))


if __name__ == "__main__":
    main()
