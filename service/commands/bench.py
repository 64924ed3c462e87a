"""`tamvt bench engine`: how fast the embedded engine is, alone: no HTTP, no Redis.

Letters: L frames of a clip, N entries, O objects, h and w the model's size.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cyclopts import Parameter, Token
from numpy.typing import NDArray

from model.core.memory import Memory
from model.core.pixels import resize_frame, resize_masks
from service.commands.failures import report_failures
from service.engines.base import Engine, EntryPicture
from service.engines.embedded import embedded_engine
from service.media.sample import draw_sample
from service.server.malloc import keep_large_blocks
from service.settings import read_settings

ROUNDS = 5
CLIPS_AROUND = 50
EARLY_FRAME = 100
SETTLED_FRAME = 500


@dataclass(frozen=True, slots=True)
class SampleFootage:
    """The sample at the model's size, to be played over and over."""

    frames: NDArray[np.uint8]  # (F, h, w, 3)
    mask: NDArray[np.uint8]  # (h, w): the object in frame 0, as a soft mask

    def masks(self, objects: int) -> NDArray[np.uint8]:
        """The object's mask in as many upright strips as there are objects, (O, h, w)."""
        columns = np.array_split(np.flatnonzero(self.mask.any(axis=0)), objects)
        strips = np.zeros((objects, *self.mask.shape), np.uint8)
        for strip, wanted in zip(strips, columns, strict=True):
            strip[:, wanted] = self.mask[:, wanted]
        return strips


class SteadySession:
    """A session of the engine that goes on for as long as it is asked for clips."""

    def __init__(
        self,
        engine: Engine,
        footage: SampleFootage,
        *,
        objects: int,
        clip_length: int,
        memory_size: int,
    ) -> None:
        self._engine = engine
        self._name = f"bench-{objects}"
        self._object_ids = tuple(range(1, objects + 1))
        self._reference = EntryPicture(footage.frames[0], footage.masks(objects))
        self._memory = Memory.start(0, self._object_ids, capacity=memory_size)
        self._clip_length = clip_length
        self._footage = cycle(footage.frames[1:])
        self._version = 1
        self.next_frame = 1

    async def fill(self) -> None:
        """Runs clips until the bank is full, and a few more."""
        for _ in range(self._memory.capacity + 2):
            await self.clip_ms()

    async def clip_ms(self) -> float:
        """Milliseconds of the next clip: masks, and the entry of its last frame."""
        frames = np.stack(list(islice(self._footage, self._clip_length)))  # (L, h, w, 3)
        before, last = self._memory, self.next_frame + self._clip_length - 1
        after = before.remember(last, self._object_ids, self._engine.spec.retention)
        started = time.perf_counter()
        async with self._engine.lease(
            self._name,
            version=self._version,
            memory=before,
            model_size=frames.shape[1:3],
            pictures=self._pictures,
        ) as lease:
            await lease.segment(frames, before=before, object_ids=self._object_ids)
            if after is not before:
                lease.remember(after)
            lease.commit(self._version + 1)
        self._memory, self.next_frame, self._version = after, last + 1, self._version + 1
        return (time.perf_counter() - started) * 1000

    async def _pictures(self) -> Sequence[EntryPicture]:
        assert self._version == 1, "the engine lost the bank of a session in use"
        return [self._reference]


def _size(_type: object, tokens: Sequence[Token]) -> tuple[int, int]:
    height, _, width = tokens[0].value.partition("x")
    return int(height), int(width)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchArguments:
    """The options of `tamvt bench engine`."""

    size: Annotated[
        tuple[int, int],
        Parameter(
            converter=_size,
            n_tokens=1,
            help="the model's, HxW",
            show_default=lambda size: f"{size[0]}x{size[1]}",
        ),
    ] = (256, 448)
    objects: Annotated[
        tuple[int, ...],
        Parameter(
            consume_multiple=True,
            help="a row for each number",
            show_default=lambda numbers: " ".join(map(str, numbers)),
        ),
    ] = (1, 2, 3)
    clip_length: Annotated[int, Parameter(help="frames of a clip, L")] = 2
    memory_size: Annotated[int, Parameter(help="entries, N")] = 9
    clips: Annotated[int, Parameter(help="clips measured per row")] = 100
    threads: Annotated[int, Parameter(help="of one inference; 0: all")] = 0
    frames: Annotated[int | None, Parameter(help="also compare frame 100 with this one")] = None


BY_DEFAULT = BenchArguments()


@report_failures("bench")
def run(
    _what: Annotated[Literal["engine"], Parameter(name="WHAT", help="the embedded engine alone")],
    /,
    *,
    args: BenchArguments = BY_DEFAULT,
) -> None:
    """Print a table in Markdown with date, processor and threads."""
    keep_large_blocks()
    asyncio.run(_bench(args))


async def _bench(args: BenchArguments) -> None:
    settings = read_settings()
    footage = sample_footage(args.size)
    threads = args.threads or len(os.sched_getaffinity(0))
    height, width = args.size
    async with embedded_engine(settings.weights, settings.model, threads=threads) as engine:
        print(
            f"{settings.model}, {height}x{width}, N = {args.memory_size}, L = {args.clip_length}; "
            f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, {threads} threads\n"
        )
        print(await _table_of_objects(engine, footage, args))
        if args.frames:
            print(await _table_of_growth(engine, footage, args, frames=args.frames))


def sample_footage(size: tuple[int, int]) -> SampleFootage:
    """The built-in sample at the model's size (h, w)."""
    pictures, labels = zip(*draw_sample(), strict=True)
    reference = (labels[0] > 0).astype(np.uint8)[None] * np.uint8(255)  # (1, H, W)
    return SampleFootage(
        frames=np.stack([resize_frame(picture, size) for picture in pictures]),
        mask=resize_masks(reference, size)[0],
    )


async def _table_of_objects(engine: Engine, footage: SampleFootage, args: BenchArguments) -> str:
    """Measure clips with a full bank; return the medians, a row for each number of objects.

    Measured in turns, so that a disturbance of the machine meets all of them.
    """
    sessions = {objects: _session(engine, footage, objects, args) for objects in args.objects}
    for session in sessions.values():
        await session.fill()
    times: dict[int, list[float]] = {objects: [] for objects in sessions}
    for _ in range(ROUNDS):
        for objects, session in sessions.items():
            times[objects] += [await session.clip_ms() for _ in range(-(-args.clips // ROUNDS))]
    medians = {objects: statistics.median(measured) for objects, measured in times.items()}
    rows = ["| objects | clip, ms | frames/s | a further object |", "|---|---|---|---|"]
    fewest = min(medians)
    for objects, ms in medians.items():
        further = "-"
        if objects > fewest == 1:
            further = f"{(ms / medians[1] - 1) / (objects - 1):.0%} of the first"
        rows.append(f"| {objects} | {ms:.1f} | {args.clip_length * 1000 / ms:.1f} | {further} |")
    return "\n".join(rows)


def _session(
    engine: Engine, footage: SampleFootage, objects: int, args: BenchArguments
) -> SteadySession:
    return SteadySession(
        engine,
        footage,
        objects=objects,
        clip_length=args.clip_length,
        memory_size=args.memory_size,
    )


async def _table_of_growth(
    engine: Engine, footage: SampleFootage, args: BenchArguments, *, frames: int
) -> str:
    """Run one object for `frames` and half a window more; return what it costs early and late."""
    await engine.discard("bench-1")
    session = _session(engine, footage, 1, args)
    times: list[tuple[int, float]] = []
    rss_mb: dict[int, float] = {}
    end = frames + CLIPS_AROUND // 2 * args.clip_length
    while session.next_frame < end:
        frame = session.next_frame
        times.append((frame, await session.clip_ms()))
        rss_mb[frame] = resident_mb()
    early_ms, late_ms = _median_around(EARLY_FRAME, times), _median_around(frames, times)
    early_mb, late_mb = _value_at(SETTLED_FRAME, rss_mb), _value_at(frames, rss_mb)
    return (
        "\n| one object | early | late | change |\n|---|---|---|---|\n"
        f"| clip, ms, median of {CLIPS_AROUND} around frames {EARLY_FRAME} and {frames} "
        f"| {early_ms:.1f} | {late_ms:.1f} | {late_ms / early_ms - 1:+.1%} |\n"
        f"| RSS, MB, at frames {SETTLED_FRAME} and {frames} "
        f"| {early_mb:.0f} | {late_mb:.0f} | {late_mb / early_mb - 1:+.1%} |"
    )


def _median_around(frame: int, times: Iterable[tuple[int, float]]) -> float:
    """The median of the 50 clips nearest to a frame."""
    nearest = sorted(times, key=lambda timed: abs(timed[0] - frame))[:CLIPS_AROUND]
    return statistics.median(milliseconds for _, milliseconds in nearest)


def _value_at(frame: int, values: Mapping[int, float]) -> float:
    return values[min(values, key=lambda known: abs(known - frame))]


def resident_mb() -> float:
    """Megabytes of this process in memory, as Linux counts them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def processor() -> str:
    """The processor's name, as Linux tells it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "unknown processor")
