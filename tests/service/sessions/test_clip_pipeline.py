"""The clip pipeline's promises, with a real store and the toy model behind a gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from model.core.image_headers import ImageLimits
from service.access.admission import Admission
from service.engines.embedded import embedded_engine
from service.engines.pool import served_tenant
from service.errors import (
    Conflict,
    MasksTooLarge,
    Overloaded,
    SessionTooLarge,
    UnknownSession,
)
from service.server.workers import Workers
from service.sessions import clip_pipeline
from service.sessions.appends import AppendedFrames
from service.sessions.backend import SessionBackend
from service.sessions.clip_commits import CommitPolicy
from service.sessions.clip_pipeline import FinishedClip
from service.sessions.frames import Frame, Limits
from service.sessions.options import ChosenOptions
from service.sessions.tracking import TrackingService
from service.store.records import NO_LIMITS, StoreLimits
from service.store.session_store import STREAM_OWNER, open_store
from service.telemetry.stage_times import StageTimes
from tests.support import scene
from tests.support.gates import Gate, GatedEngine

pytestmark = pytest.mark.anyio
LIMITS = Limits(image=ImageLimits(), append_frames=64, video_frames=64, objects=8)


class SecondClipFails(Gate):
    """Open for one clip."""

    async def passed(self) -> None:
        self.clips += 1
        if self.clips == 2:
            raise Overloaded("the engine is full")


ADMISSION = Admission(max_requests=9, max_bytes=10**9)


class Stage:
    """A tracker, and the gate that its clips wait at."""

    def __init__(self, backend: SessionBackend, gate: Gate) -> None:
        self.backend, self.gate = backend, gate
        self.tracker = TrackingService(backend, limits=LIMITS, deadline_s=60)

    async def start(self) -> str:
        with ADMISSION.reservation() as reservation:
            session, _ = await self.tracker.start(
                scene.png(0), scene.mask(), ChosenOptions(), tenant="t", reservation=reservation
            )
        return session.session_id

    async def append(
        self, session_id: str, first: int, last: int, tracker: TrackingService | None = None
    ) -> AppendedFrames:
        images = [scene.jpeg(number) for number in range(first, last + 1)]
        times = StageTimes()
        chosen = tracker or self.tracker
        with ADMISSION.reservation() as reservation:
            return await chosen.append(
                session_id,
                images,
                tenant="t",
                first_frame=first,
                times=times,
                reservation=reservation,
            )


@pytest.fixture
async def stage(redis_url: str, toy_folder: Path) -> AsyncIterator[Stage]:
    gate = Gate()
    async with (
        open_store(redis_url, ttl_s=600) as store,
        embedded_engine(toy_folder, "toy", threads=1) as engine,
    ):
        with Workers(threads=2) as workers:
            engines = {"toy": GatedEngine(engine, gate)}
            yield Stage(SessionBackend(store, workers, engines), gate)


async def test_a_retry_sent_while_its_first_try_runs_gets_the_firsts_result(stage: Stage) -> None:
    session = await stage.start()
    first = asyncio.create_task(stage.append(session, 1, 4))
    await stage.gate.reached.wait()
    again = asyncio.create_task(stage.append(session, 1, 4))
    await asyncio.sleep(0.05)
    stage.gate.opened.set()
    tried, retried = await asyncio.gather(first, again)
    assert (tried.replayed, retried.replayed) == (0, 4)
    assert retried.frames == tried.frames
    assert stage.gate.clips == 2


async def test_a_deleted_session_leaves_no_bank_of_a_clip_under_way(stage: Stage) -> None:
    session = await stage.start()
    first = asyncio.create_task(stage.append(session, 1, 2))
    await stage.gate.reached.wait()
    deleting = asyncio.create_task(stage.tracker.delete(session, tenant="t"))
    await asyncio.sleep(0.05)
    assert not deleting.done()
    stage.gate.opened.set()
    with pytest.raises(UnknownSession):
        await first
    await deleting


async def test_an_append_of_which_a_clip_fails_commits_nothing(stage: Stage) -> None:
    session = await stage.start()
    stage.gate.opened.set()
    engines = {"toy": GatedEngine(stage.backend.engines["toy"], SecondClipFails())}
    tracker = TrackingService(replace(stage.backend, engines=engines), limits=LIMITS, deadline_s=60)
    with pytest.raises(Overloaded):
        await stage.append(session, 1, 8, tracker)
    assert stage.gate.clips == 1
    assert (await stage.tracker.session(session, tenant="t")).next_frame == 1


async def test_what_a_task_does_next_counts_for_its_own_tenant(stage: Stage) -> None:
    stage.gate.opened.set()
    session = await stage.start()
    before = served_tenant.get()
    await stage.append(session, 1, 2)
    assert served_tenant.get() == before != "t"


async def test_a_stream_commits_each_clip_while_the_next_is_in_the_engine(stage: Stage) -> None:
    session_id = await stage.start()
    session = await stage.tracker.session(session_id, tenant="t")
    frames = [
        stage.tracker.read_frame(session, scene.jpeg(number), number=number)
        for number in range(1, 5)
    ]
    committed: list[int] = []
    first_is_committed = asyncio.Event()
    stage.gate.opened.set()

    async def remember(clip: FinishedClip) -> None:
        committed.append(clip.frames[-1].frame)
        first_is_committed.set()

    async with stage.tracker.pipeline(session_id, tenant="t") as pipeline:
        await pipeline.add_frames(frames[:2], first_frame=1, skipping=False, on_finish=remember)
        stage.gate.opened.clear()
        second = asyncio.create_task(
            pipeline.add_frames(frames[2:], first_frame=3, skipping=False, on_finish=remember)
        )
        async with asyncio.timeout(20):
            await first_is_committed.wait()
        assert not second.done()
        stage.gate.opened.set()
        await second
    assert committed == [2, 4]


async def test_a_commit_under_way_outlasts_every_cancellation(stage: Stage) -> None:
    session_id = await stage.start()
    session = await stage.tracker.session(session_id, tenant="t")
    frame = stage.tracker.read_frame(session, scene.jpeg(1), number=1)
    begun, released, told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    stage.gate.opened.set()

    async def hesitate(clip: FinishedClip) -> None:
        begun.set()
        await released.wait()
        told.set()

    async def run() -> None:
        async with stage.tracker.pipeline(session_id, tenant="t") as pipeline:
            await pipeline.add_frames([frame], first_frame=1, skipping=False, on_finish=hesitate)

    running = asyncio.create_task(run())
    await begun.wait()
    for _ in range(3):
        running.cancel()
        await asyncio.sleep(0.01)
    assert not running.done()
    released.set()
    with suppress(asyncio.CancelledError):
        await running
    assert told.is_set()
    assert running.cancelled()


LATER = CommitPolicy.AT_THE_END


async def frames_of(stage: Stage, session_id: str, numbers: Iterable[int]) -> list[Frame]:
    session = await stage.tracker.session(session_id, tenant="t")
    return [stage.tracker.read_frame(session, scene.jpeg(n), number=n) for n in numbers]


async def ignore(clip: FinishedClip) -> None:
    """What a stream does with the masks is not asked here."""


async def test_clips_that_are_answered_first_are_one_commit_of_what_is_needed(
    stage: Stage, redis_url: str
) -> None:
    session_id, other = await stage.start(), await stage.start()
    stage.gate.opened.set()
    answered: list[FinishedClip] = []

    async def look(clip: FinishedClip) -> None:
        assert (await stage.tracker.session(session_id, tenant="t")).next_frame == 1
        answered.append(clip)

    frames = await frames_of(stage, session_id, range(1, 41))
    async with stage.tracker.pipeline(session_id, tenant="t", policy=LATER) as pipeline:
        for first in range(1, 41, 2):
            clip = frames[first - 1 : first + 1]
            await pipeline.add_frames(clip, first_frame=first, skipping=False, on_finish=look)
    stored = await stage.tracker.session(session_id, tenant="t")
    assert (stored.version, stored.next_frame) == (2, 41)
    assert [one.frame for one in stored.snapshots] == [0, 40]
    async with Redis.from_url(redis_url) as redis:
        fields = await redis.hkeys(f"tamvt:{{{session_id}}}:entries")
    kept = {int(name) for name in fields if name.isdigit()}
    assert kept == {entry.frame for entry in stored.memory.entries}

    # As if each had been committed, and rebuilt from what is stored.
    for first in range(1, 41, 2):
        await stage.append(other, first, first + 1)
    await stage.backend.engines["toy"].discard(session_id)
    after = [(await stage.append(each, 41, 44)).frames for each in (session_id, other)]
    assert after[0] == after[1]
    masks = tuple(frame for clip in answered for frame in clip.frames)
    for each in (session_id, other):
        assert await stage.backend.store.masks(each, 1, 40) == masks


async def test_what_is_answered_is_committed_though_the_next_clip_fails(stage: Stage) -> None:
    session_id = await stage.start()
    engines = {"toy": GatedEngine(stage.backend.engines["toy"], SecondClipFails())}
    tracker = TrackingService(replace(stage.backend, engines=engines), limits=LIMITS, deadline_s=60)
    stage.gate.opened.set()
    frames = await frames_of(stage, session_id, range(1, 5))

    async def run() -> None:
        async with tracker.pipeline(session_id, tenant="t", policy=LATER) as pipeline:
            for first in (1, 3):
                clip = frames[first - 1 : first + 1]
                await pipeline.add_frames(clip, first_frame=first, skipping=False, on_finish=ignore)

    with pytest.raises(Overloaded):
        await run()
    assert (await tracker.session(session_id, tenant="t")).next_frame == 3


@pytest.mark.parametrize(
    ("limits", "error"),
    [
        (StoreLimits(frame_masks_bytes=9), MasksTooLarge),
        (StoreLimits(session_bytes=9), SessionTooLarge),
    ],
)
async def test_what_is_beyond_a_limit_is_not_answered_and_costs_no_neighbor(
    stage: Stage, limits: StoreLimits, error: type[Exception]
) -> None:
    session_id, answered, told = await stage.start(), [], asyncio.Event()
    store = stage.backend.store
    stage.gate.opened.set()
    frames = await frames_of(stage, session_id, range(1, 5))

    async def note(clip: FinishedClip) -> None:
        answered.append(clip.frames[-1].frame)
        told.set()

    async def run() -> None:
        async with stage.tracker.pipeline(session_id, tenant="t", policy=LATER) as pipeline:
            await pipeline.add_frames(frames[:2], first_frame=1, skipping=False, on_finish=note)
            await told.wait()
            store.limits = limits
            try:
                await pipeline.add_frames(frames[2:], first_frame=3, skipping=False, on_finish=note)
                await pipeline.commit()
            finally:
                store.limits = NO_LIMITS

    with pytest.raises(error):
        await run()
    assert answered == [2]
    assert (await stage.tracker.session(session_id, tenant="t")).next_frame == 3


@pytest.mark.parametrize("owner", ["older", "newer"])
async def test_a_session_that_is_another_streams_takes_no_commit(stage: Stage, owner: str) -> None:
    session_id = await stage.start()
    stage.gate.opened.set()
    frames = await frames_of(stage, session_id, (1, 2))

    async def run() -> None:
        async with stage.tracker.pipeline(
            session_id, tenant="t", policy=LATER, owner=owner
        ) as pipeline:
            await pipeline.add_frames(frames, first_frame=1, skipping=False, on_finish=ignore)
            await stage.backend.store.set_side_key(session_id, STREAM_OWNER, "newer", ttl_s=60)

    if owner == "older":
        with pytest.raises(Conflict):
            await run()
    else:
        await run()
    expected = {"older": 1, "newer": 3}[owner]
    assert (await stage.tracker.session(session_id, tenant="t")).next_frame == expected


@pytest.mark.parametrize(
    ("most", "clips"), [("MOST_UNCOMMITTED", 2), ("MOST_UNCOMMITTED_BYTES", 1)]
)
async def test_what_is_answered_and_not_committed_is_bounded(
    stage: Stage, most: str, clips: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_pipeline, most, 4)
    session_id = await stage.start()
    stage.gate.opened.set()
    frames = await frames_of(stage, session_id, range(1, 7))
    told = asyncio.Event()

    async def tell(clip: FinishedClip) -> None:
        told.set()

    async with stage.tracker.pipeline(session_id, tenant="t", policy=LATER) as pipeline:
        for first in (1, 3)[:clips]:
            assert not pipeline.is_full
            told.clear()
            clip = frames[first - 1 : first + 1]
            await pipeline.add_frames(clip, first_frame=first, skipping=False, on_finish=tell)
            await told.wait()
        assert pipeline.is_full
        await pipeline.commit()
        assert not pipeline.is_full
