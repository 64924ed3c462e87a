"""The embedded engine on real ONNX Runtime, with the toy model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from model.core.memory import Memory
from service.engines.base import Engine, EngineLimits, EntryPicture
from service.engines.embedded import embedded_engine, embedded_engines
from service.engines.graphs import open_graphs
from service.engines.inference import Inference
from service.engines.pool import Pool
from service.errors import CorruptSession, EngineUnavailable, Overloaded
from tests.support.scenes import SIZE, clip, faded, picture, true_masks
from tests.support.toy_model import LESS_STEEP, write_toy_model
from tests.support.videos import Video

pytestmark = pytest.mark.anyio


@pytest.fixture
async def engine(toy_folder: Path) -> AsyncIterator[Engine]:
    async with embedded_engine(toy_folder, "toy", threads=1) as opened:
        yield opened


async def test_objects_are_followed(engine: Engine) -> None:
    video = Video(object_ids=(1, 2, 3))
    for first in (1, 3, 5, 7):
        answer = await video.append(engine, first, first + 1)
        assert (answer.masks == true_masks(first, first + 1, (1, 2, 3))).all()
        assert answer.confidence.shape == (2, 3)
        assert answer.batch_size == 1


async def test_the_answer_is_in_the_order_of_the_object_ids(engine: Engine) -> None:
    answer = await Video(object_ids=(3, 1)).append(engine, 1, 1)
    assert (answer.masks == true_masks(1, 1, (3, 1))).all()


async def test_the_bank_is_built_once_and_then_kept(engine: Engine) -> None:
    video = Video()
    for first in (1, 3, 5):
        await video.append(engine, first, first + 1)
    assert video.rebuilds == 1


@pytest.mark.parametrize("capacity", [1, 2, 3, 9])
async def test_masks_after_a_rebuild_are_the_same_bit_for_bit(
    engine: Engine, capacity: int
) -> None:
    kept, rebuilt = (
        Video(session_id="a", capacity=capacity, fades=True),
        Video(session_id="b", capacity=capacity, fades=True),
    )
    for first in range(1, 21, 2):
        expected = await kept.append(engine, first, first + 1)
        await engine.discard("b")
        answer = await rebuilt.append(engine, first, first + 1)
        assert (answer.masks == expected.masks).all()
        assert (answer.confidence == expected.confidence).all()
    assert (kept.rebuilds, rebuilt.rebuilds) == (1, 10)


async def test_many_clips_in_one_lease_are_the_same_as_one_by_one(engine: Engine) -> None:
    single, joined = Video(session_id="a"), Video(session_id="b")
    expected = [await single.append(engine, first, first + 1) for first in range(1, 13, 2)]
    async with joined.lease(engine) as bank:
        answers = [await joined.segment(bank, first, first + 1) for first in range(1, 13, 2)]
    for answer, wanted in zip(answers, expected, strict=True):
        assert (answer.masks == wanted.masks).all()


async def test_a_clip_from_an_earlier_memory_is_not_made_from_the_later_one(
    engine: Engine,
) -> None:
    video = Video()
    async with video.lease(engine) as bank:
        await video.segment(bank, 1, 2)
        video.memory = Memory.start(0, [1], capacity=3)  # as it was when the lease began
        answer = await video.segment(bank, 1, 2)
    assert video.rebuilds == 2
    assert (answer.masks == true_masks(1, 2)).all()


async def test_a_bank_that_was_not_committed_is_discarded(engine: Engine) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    memory = video.memory
    async with video.lease(engine) as bank:
        await video.segment(bank, 3, 4)
    video.memory = memory
    answer = await video.append(engine, 3, 4)
    assert video.rebuilds == 2
    assert (answer.masks == true_masks(3, 4)).all()


async def test_a_bank_of_another_version_is_rebuilt(engine: Engine) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    video.version += 1  # another gateway committed
    await video.append(engine, 3, 4)
    assert video.rebuilds == 2


async def test_an_old_owner_does_not_cost_the_newer_bank(engine: Engine) -> None:
    video, late = Video(), Video()
    await video.append(engine, 1, 2)
    async with late.lease(engine) as bank:
        await late.segment(bank, 1, 2)  # its commit is refused by the store
    await video.append(engine, 3, 4)
    assert video.rebuilds == 1


async def test_a_discarded_bank_is_rebuilt(engine: Engine) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    await engine.discard("a")
    await engine.discard("a")
    await video.append(engine, 3, 4)
    assert video.rebuilds == 2


async def test_an_object_added_later_is_unknown_to_older_entries(engine: Engine) -> None:
    video = Video(object_ids=(1,), capacity=4)
    await video.append(engine, 1, 2)
    video.object_ids = (2, 1)
    answer = await video.append(engine, 3, 3)
    # Nobody has said yet what object 2 looks like.
    assert not answer.masks[:, 0].any()
    assert not answer.confidence[:, 0].any()
    assert (answer.masks[:, 1] == true_masks(3, 3, (2, 1))[:, 1]).all()
    video.pictures[3] = picture(3, (2, 1))  # now somebody has
    await engine.discard("a")
    answer = await video.append(engine, 4, 4)
    assert (answer.masks == true_masks(4, 4, (2, 1))).all()


async def test_a_lost_object_is_not_in_the_entry(engine: Engine) -> None:
    kept, rebuilt = (Video(session_id=name, object_ids=(1, 2)) for name in "ab")
    for first, lost in zip(range(1, 17, 2), ((), (2,), (1, 2), (1,)) * 2, strict=True):
        expected = await kept.append(engine, first, first + 1, lost=lost)
        await engine.discard("b")
        answer = await rebuilt.append(engine, first, first + 1, lost=lost)
        assert (answer.masks == expected.masks).all()
        assert (answer.confidence == expected.confidence).all()
    assert (kept.rebuilds, rebuilt.rebuilds) == (1, 8)
    assert [entry.object_ids for entry in kept.memory.entries] == [(1, 2), (1,), (2,)]


async def test_a_clip_that_is_not_remembered_leaves_the_bank_as_it_is(engine: Engine) -> None:
    """The bank is full, and what is not remembered has another color than what is."""
    video, other = Video(capacity=2), Video(session_id="b", capacity=2)
    await video.append(engine, 1, 2)
    await other.append(engine, 1, 2)
    for first in (3, 5):
        await video.look(engine, faded(clip(first, first + 1)))
    there = await video.look(engine, faded(clip(7, 8)))
    here = await other.look(engine, faded(clip(7, 8)))
    assert 0 < here.confidence.max() < 0.9
    assert (there.masks == here.masks).all()
    assert video.rebuilds == 1


async def test_a_removed_object_leaves_the_others_as_they_are(engine: Engine) -> None:
    video = Video(object_ids=(1, 2))
    await video.append(engine, 1, 2)
    video.object_ids = (2,)
    answer = await video.append(engine, 3, 4)
    assert (answer.masks == true_masks(3, 4, (2,))).all()


async def test_banks_are_bounded_and_sessions_go_on_without_them(toy_folder: Path) -> None:
    async with embedded_engine(
        toy_folder, "toy", threads=1, limits=EngineLimits(bank_bytes=600)
    ) as engine:
        videos = [Video(session_id=str(number)) for number in range(5)]
        for first in (1, 3, 5):
            for video in videos:
                answer = await video.append(engine, first, first + 1)
                assert (answer.masks == true_masks(first, first + 1)).all()
    assert [video.rebuilds for video in videos] == [3] * 5


async def test_the_banks_of_all_models_share_one_budget(tmp_path: Path) -> None:
    """There is room for one bank: each session takes that of the other model's."""
    write_toy_model(tmp_path)
    write_toy_model(tmp_path, name="other", weights=LESS_STEEP)
    async with embedded_engines(
        tmp_path, ["toy", "other"], threads=1, limits=EngineLimits(bank_bytes=400)
    ) as engines:
        assert list(engines) == ["toy", "other"]
        videos = {name: Video(session_id=name) for name in engines}
        for first in (1, 3, 5):
            for name, video in videos.items():
                answer = await video.append(engines[name], first, first + 1)
                assert answer.weights_sha256 == engines[name].spec.weights_sha256
    assert [video.rebuilds for video in videos.values()] == [3, 3]


async def test_sessions_at_once_do_not_disturb_each_other(toy_folder: Path) -> None:
    async with embedded_engine(toy_folder, "toy", threads=1, workers=2) as engine:
        videos = [
            Video(session_id=str(number), object_ids=(1 + number % 3,)) for number in range(8)
        ]

        async def watch(video: Video) -> None:
            for first in range(1, 15, 2):
                answer = await video.append(engine, first, first + 1)
                assert (answer.masks == true_masks(first, first + 1, video.object_ids)).all()

        await asyncio.gather(*(watch(video) for video in videos))


@pytest.mark.parametrize("delay_s", [0, 0.0002, 0.001, 0.01])
async def test_a_cancelled_clip_leaves_nothing_behind(engine: Engine, delay_s: float) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    await video.abandon(engine, 3, 4, delay_s=delay_s)
    for first in (3, 5):
        answer = await video.append(engine, first, first + 1)
        assert (answer.masks == true_masks(first, first + 1)).all()


@pytest.mark.parametrize(
    "pictures",
    [
        [],
        [picture(0), picture(1)],
        [EntryPicture(picture(0).frame[:32], picture(0).masks[:, :32])],
        [picture(0, (1, 2))],
    ],
    ids=["none", "too many", "another size", "another number of objects"],
)
async def test_pictures_of_another_memory_are_corruption(
    engine: Engine, pictures: list[EntryPicture]
) -> None:
    async def wrong() -> Sequence[EntryPicture]:
        return pictures

    memory = Memory.start(0, [1], capacity=3)
    async with engine.lease("a", version=1, memory=memory, model_size=SIZE, pictures=wrong) as bank:
        with pytest.raises(CorruptSession):
            await bank.segment(clip(1, 1), before=memory, object_ids=[1])


async def test_a_failure_in_the_graph_is_an_unavailable_engine(engine: Engine) -> None:
    memory = Memory.start(0, [1], capacity=3)
    video = Video()
    async with video.lease(engine) as bank:
        wrong = clip(1, 1)[..., :2]
        with pytest.raises(EngineUnavailable):
            await bank.segment(wrong, before=memory, object_ids=[1])
        with pytest.raises(EngineUnavailable):
            await bank.segment(clip(1, 1), before=memory.remember(1, [1]), object_ids=[1])
    await video.append(engine, 1, 2)


async def test_a_closed_engine_is_not_ready(toy_folder: Path) -> None:
    async with embedded_engine(toy_folder, "toy", threads=1) as engine:
        await engine.ready()
    with pytest.raises(EngineUnavailable):
        await engine.ready()
    with pytest.raises(EngineUnavailable):
        await Video().append(engine, 1, 2)


async def test_no_thread_is_left_when_the_engine_is_closed(toy_folder: Path) -> None:
    async with embedded_engine(toy_folder, "toy", threads=1, workers=3) as engine:
        await Video().append(engine, 1, 2)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("engine")]


async def test_too_much_waiting_work_is_an_overload() -> None:
    pool = Pool(workers=1, queue=1, deadline_s=60)
    gate = threading.Event()
    tasks = [asyncio.create_task(pool.run(lambda _: gate.wait(60))) for _ in range(2)]
    await asyncio.sleep(0.02)
    with pytest.raises(Overloaded) as caught:
        await pool.run(lambda _: True)
    assert caught.value.retry_after_s > 0
    gate.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert await pool.run(lambda _: True)
    pool.close()


async def test_work_beyond_its_deadline_is_unavailable_and_keeps_its_place() -> None:
    pool = Pool(workers=1, queue=0, deadline_s=0.05)
    gate = threading.Event()
    with pytest.raises(EngineUnavailable):
        await pool.run(lambda _: gate.wait(60))
    with pytest.raises(Overloaded):
        await pool.run(lambda _: True)
    gate.set()
    await until_it_runs(pool)
    pool.close()


async def until_it_runs(pool: Pool) -> None:
    """Nothing, once the pool has run something within its deadline."""
    async with asyncio.timeout(60):
        while True:
            with suppress(EngineUnavailable, Overloaded):
                assert await pool.run(lambda _: True)
                return
            await asyncio.sleep(0.01)


async def test_cancelled_work_that_has_not_started_never_does() -> None:
    pool = Pool(workers=1, queue=1, deadline_s=60)
    gate, started = threading.Event(), threading.Event()
    first = asyncio.create_task(pool.run(lambda _: gate.wait(60)))
    second = asyncio.create_task(pool.run(lambda _: started.set()))
    await asyncio.sleep(0.02)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.set()
    await first
    await asyncio.to_thread(pool.close)
    assert not started.is_set()


async def test_the_event_loop_is_free_while_the_model_runs() -> None:
    pool = Pool(workers=1, queue=0, deadline_s=60)
    gate = threading.Event()
    task = asyncio.create_task(pool.run(lambda _: gate.wait(30)))
    await asyncio.sleep(0.01)
    gate.set()
    assert await task  # the gate was set before its time was over
    pool.close()


async def test_an_engine_never_writes_into_the_frames(engine: Engine) -> None:
    frames = clip(1, 2)
    frames.flags.writeable = False
    memory = Memory.start(0, [1], capacity=3)
    async with Video().lease(engine) as bank:
        answer = await bank.segment(frames, before=memory, object_ids=[1])
    assert answer.masks.dtype == np.uint8


async def test_a_stopped_run_ends_early(toy_folder: Path) -> None:
    graphs = open_graphs(toy_folder, "toy", threads=1)
    run = Inference()
    run.stop()
    with pytest.raises(EngineUnavailable):
        run(graphs.memorize, {"frame": clip(1, 1), "masks": true_masks(1, 1)})
