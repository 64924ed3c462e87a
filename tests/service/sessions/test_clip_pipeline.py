"""The clip pipeline's promises, with a real store and the toy model behind a gate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from model.core.image_headers import ImageLimits
from service.access.admission import Admission
from service.engines.embedded import embedded_engine
from service.errors import Overloaded, UnknownSession
from service.server.workers import Workers
from service.sessions.appends import AppendedFrames
from service.sessions.backend import SessionBackend
from service.sessions.clip_pipeline import CommittedClip
from service.sessions.frames import Limits
from service.sessions.options import ChosenOptions
from service.sessions.tracking import TrackingService
from service.store.session_store import open_store
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

    async def remember(clip: CommittedClip) -> None:
        committed.append(clip.frames[-1].frame)
        first_is_committed.set()

    async with stage.tracker.pipeline(session_id, tenant="t") as pipeline:
        await pipeline.add_frames(frames[:2], first_frame=1, skipping=False, on_commit=remember)
        stage.gate.opened.clear()
        second = asyncio.create_task(
            pipeline.add_frames(frames[2:], first_frame=3, skipping=False, on_commit=remember)
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

    async def hesitate(clip: CommittedClip) -> None:
        begun.set()
        await released.wait()
        told.set()

    async def run() -> None:
        async with stage.tracker.pipeline(session_id, tenant="t") as pipeline:
            await pipeline.add_frames([frame], first_frame=1, skipping=False, on_commit=hesitate)

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
