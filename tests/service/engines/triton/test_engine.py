"""The Triton engine on a real Triton, with the toy model behind its Python backend."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from model.core.memory import Memory
from service.engines.base import Engine, EngineLimits
from service.engines.embedded import embedded_engine
from service.engines.triton.engine import SharedMemory, TritonEngine, triton_engine
from service.errors import CorruptSession, EngineUnavailable, Misconfigured, Overloaded
from service.local.triton import LocalTriton
from tests.support.scenes import SIZE, clip, faded, picture, true_masks
from tests.support.tritons import open_files, paused, regions, until, waiting
from tests.support.videos import Video

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["shared memory", "inline"])
async def either(
    request: pytest.FixtureRequest, triton: LocalTriton, prefix: str
) -> AsyncIterator[TritonEngine]:
    """An engine with its banks in each of the two places."""
    shared = request.param == "shared memory"
    async with triton_engine(
        triton.url, "toy", memory=SharedMemory(prefix=prefix) if shared else None
    ) as opened:
        yield opened


@pytest.mark.parametrize("object_ids", [(1,), (3, 1), (1, 2, 3)], ids=str)
async def test_both_engines_give_the_same_bits(
    either: Engine, toy_folder: Path, object_ids: tuple[int, ...]
) -> None:
    there, here = Video(object_ids=object_ids), Video(object_ids=object_ids)
    async with embedded_engine(toy_folder, "toy", threads=1) as embedded:
        for first in (1, 3, 5, 7, 9):
            answer = await there.append(either, first, first + 1)
            expected = await here.append(embedded, first, first + 1)
            assert (answer.masks == expected.masks).all()
            assert (answer.confidence == expected.confidence).all()
            assert (answer.masks == true_masks(first, first + 1, object_ids)).all()
    assert there.rebuilds == 1


@pytest.mark.parametrize("capacity", [1, 2, 9, 12])
async def test_masks_after_a_rebuild_are_the_same_bit_for_bit(
    either: Engine, capacity: int
) -> None:
    kept, rebuilt = (Video(session_id=name, capacity=capacity, fades=True) for name in "ab")
    for first in range(1, 21, 2):
        expected = await kept.append(either, first, first + 1)
        await either.discard("b")
        answer = await rebuilt.append(either, first, first + 1)
        assert (answer.masks == expected.masks).all()
        assert (answer.confidence == expected.confidence).all()
    assert (kept.rebuilds, rebuilt.rebuilds) == (1, 10)


async def test_a_lost_object_is_not_in_the_entry(either: Engine) -> None:
    kept, rebuilt = (Video(session_id=name, object_ids=(1, 2)) for name in "ab")
    for first, lost in zip(range(1, 17, 2), ((), (2,), (1, 2), (1,)) * 2, strict=True):
        expected = await kept.append(either, first, first + 1, lost=lost)
        await either.discard("b")
        answer = await rebuilt.append(either, first, first + 1, lost=lost)
        assert (answer.masks == expected.masks).all()
        assert (answer.confidence == expected.confidence).all()
    assert (kept.rebuilds, rebuilt.rebuilds) == (1, 8)


async def test_a_clip_that_is_not_remembered_leaves_the_bank_as_it_is(either: Engine) -> None:
    """The bank is full, and what is not remembered has another color than what is."""
    video, other = Video(capacity=2), Video(session_id="b", capacity=2)
    await video.append(either, 1, 2)
    await other.append(either, 1, 2)
    for first in (3, 5):
        await video.look(either, faded(clip(first, first + 1)))
    there = await video.look(either, faded(clip(7, 8)))
    here = await other.look(either, faded(clip(7, 8)))
    assert 0 < here.confidence.max() < 0.9
    assert (there.masks == here.masks).all()
    assert video.rebuilds == 1


async def test_many_clips_in_one_lease_are_the_same_as_one_by_one(either: Engine) -> None:
    single, joined = Video(session_id="a"), Video(session_id="b")
    expected = [await single.append(either, first, first + 1) for first in range(1, 13, 2)]
    async with joined.lease(either) as bank:
        answers = [await joined.segment(bank, first, first + 1) for first in range(1, 13, 2)]
    for answer, wanted in zip(answers, expected, strict=True):
        assert (answer.masks == wanted.masks).all()


async def test_a_clip_from_an_earlier_memory_is_not_made_from_the_later_one(either: Engine) -> None:
    video = Video()
    async with video.lease(either) as bank:
        await video.segment(bank, 1, 2)
        video.memory = Memory.start(0, [1], capacity=3)  # as it was when the lease began
        answer = await video.segment(bank, 1, 2)
    assert video.rebuilds == 2
    assert (answer.masks == true_masks(1, 2)).all()


async def test_a_clip_longer_than_usual_gets_a_larger_region(engine: Engine, prefix: str) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    answer = await video.append(engine, 3, 6)
    assert (answer.masks == true_masks(3, 6)).all()
    assert video.rebuilds == 2
    await until(lambda: len(regions(prefix)) == 1)


async def test_a_bank_that_was_not_committed_is_discarded(either: Engine) -> None:
    video = Video()
    await video.append(either, 1, 2)
    memory = video.memory
    async with video.lease(either) as bank:
        await video.segment(bank, 3, 4)
    video.memory = memory
    answer = await video.append(either, 3, 4)
    assert video.rebuilds == 2
    assert (answer.masks == true_masks(3, 4)).all()


async def test_a_bank_of_another_version_is_rebuilt_where_it_is(
    engine: Engine, prefix: str
) -> None:
    video = Video()
    await video.append(engine, 1, 2)
    (region,) = regions(prefix)
    video.version += 1  # another gateway committed
    await video.append(engine, 3, 4)
    assert video.rebuilds == 2
    assert regions(prefix) == [region]


async def test_an_old_owner_does_not_cost_the_newer_bank(either: Engine) -> None:
    video, late = Video(), Video()
    await video.append(either, 1, 2)
    async with late.lease(either) as bank:
        await late.segment(bank, 1, 2)  # its commit is refused by the store
    await video.append(either, 3, 4)
    assert video.rebuilds == 1


async def test_an_object_added_later_is_unknown_to_older_entries(either: Engine) -> None:
    video = Video(object_ids=(1,), capacity=4)
    await video.append(either, 1, 2)
    video.object_ids = (2, 1)
    answer = await video.append(either, 3, 3)
    assert not answer.masks[:, 0].any()
    assert not answer.confidence[:, 0].any()
    assert (answer.masks[:, 1] == true_masks(3, 3, (2, 1))[:, 1]).all()


async def test_any_engine_of_this_host_goes_on_with_the_bank(
    triton: LocalTriton, prefix: str
) -> None:
    video = Video()
    async with (
        triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as one,
        triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as other,
    ):
        for first in range(1, 17, 4):
            await video.append(one, first, first + 1)
            answer = await video.append(other, first + 2, first + 3)
            assert (answer.masks == true_masks(first + 2, first + 3)).all()
    assert video.rebuilds == 1
    assert regions(prefix) == []


async def test_while_one_engine_writes_a_bank_another_makes_its_own(
    triton: LocalTriton, prefix: str
) -> None:
    video, rival = Video(), Video()
    async with (
        triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as one,
        triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as other,
    ):
        async with video.lease(one) as bank:
            await video.segment(bank, 1, 2)
            async with rival.lease(other) as second:
                answer = await rival.segment(second, 1, 2)
            bank.commit(2)
        assert (answer.masks == true_masks(1, 2)).all()
        await until(lambda: len(regions(prefix)) == 1)
        video.version = 2
        await video.append(other, 3, 4)
        assert video.rebuilds == 1


async def test_sessions_at_once_run_together_and_do_not_disturb_each_other(
    triton: LocalTriton, toy_repository: Path, engine: Engine
) -> None:
    """Their first clips come to a model that is held, so that some wait however slow we are."""
    videos = [Video(session_id=str(number), object_ids=(1 + number % 3,)) for number in range(6)]
    largest = 0

    async def watch(video: Video) -> None:
        nonlocal largest
        for first in range(1, 15, 2):
            answer = await video.append(engine, first, first + 1)
            assert (answer.masks == true_masks(first, first + 1, video.object_ids)).all()
            largest = max(largest, answer.batch_size)

    with paused(toy_repository) as held:
        watches = [asyncio.create_task(watch(video)) for video in videos]
        await until(held.exists)
        # The model holds one clip, or two that came together.
        await until(lambda: waiting(triton) >= len(videos) - 2)
    await asyncio.gather(*watches)
    assert largest == max(engine.spec.buckets.batch) == 2


async def test_clips_that_wait_together_are_run_together(
    triton: LocalTriton, toy_repository: Path, engine: Engine
) -> None:
    videos = [Video(session_id=str(number), object_ids=(number,)) for number in (1, 2, 3)]
    for video in videos:
        await video.append(engine, 1, 2)
    with paused(toy_repository) as held:
        tasks = [asyncio.create_task(videos[0].append(engine, 3, 4))]
        await until(held.exists)
        tasks += [asyncio.create_task(video.append(engine, 3, 4)) for video in videos[1:]]
        await until(lambda: waiting(triton) == 2)
    answers = await asyncio.gather(*tasks)
    # The first was alone when it came; the others waited.
    assert [answer.batch_size for answer in answers] == [1, 2, 2]
    for video, answer in zip(videos, answers, strict=True):
        assert (answer.masks == true_masks(3, 4, video.object_ids)).all()


async def test_banks_are_bounded_and_sessions_go_on_without_them(
    triton: LocalTriton, prefix: str
) -> None:
    videos = [Video(session_id=str(number)) for number in range(4)]
    async with triton_engine(
        triton.url,
        "toy",
        limits=EngineLimits(bank_bytes=150_000),
        memory=SharedMemory(prefix=prefix),
    ) as engine:
        for first in (1, 3, 5):
            for video in videos:
                answer = await video.append(engine, first, first + 1)
                assert (answer.masks == true_masks(first, first + 1)).all()
                taken = sum(path.stat().st_size for path in regions(prefix))
                assert 0 < taken <= 150_000
    assert [video.rebuilds for video in videos] == [3] * 4


@pytest.mark.parametrize("delay_s", [0, 0.001, 0.003])
async def test_a_cancelled_clip_leaves_nothing_behind(
    either: TritonEngine, prefix: str, delay_s: float
) -> None:
    video = Video()
    await video.append(either, 1, 2)
    await video.abandon(either, 3, 4, delay_s=delay_s)
    for first in (3, 5):
        answer = await video.append(either, first, first + 1)
        assert (answer.masks == true_masks(first, first + 1)).all()
    await until(lambda: len(regions(prefix)) <= 1)


async def test_a_session_cancelled_before_its_region_is_there_leaves_none(
    triton: LocalTriton, prefix: str
) -> None:
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await Video(session_id="first").append(engine, 1, 2)
        before = open_files()
        for number in range(30):
            task = asyncio.create_task(Video(session_id=str(number)).append(engine, 1, 2))
            await asyncio.sleep(number * 0.0002)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        with suppress(TimeoutError):
            await until(lambda: len(open_files()) == len(before))
        now = open_files()
        assert len(now) == len(before), list((Counter(now) - Counter(before)).elements())
    assert regions(prefix) == []


async def test_pictures_of_another_memory_are_corruption(either: Engine) -> None:
    async def wrong() -> list[object]:
        return []

    memory = Memory.start(0, [1], capacity=3)
    async with either.lease(
        "a",
        version=1,
        memory=memory,
        model_size=SIZE,
        pictures=wrong,  # type: ignore[arg-type]
    ) as bank:
        with pytest.raises(CorruptSession):
            await bank.segment(clip(1, 1), before=memory, object_ids=[1])


async def test_too_many_clips_at_once_are_an_overload(
    triton: LocalTriton, toy_repository: Path, prefix: str
) -> None:
    videos = [Video(session_id=str(number)) for number in range(3)]
    async with triton_engine(
        triton.url,
        "toy",
        in_flight=1,
        limits=EngineLimits(waiting=1),
        memory=SharedMemory(prefix=prefix),
    ) as engine:
        with paused(toy_repository, "memorize"):
            tasks = [asyncio.create_task(video.append(engine, 1, 2)) for video in videos]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            with pytest.raises(Overloaded):
                done.pop().result()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(answer, Overloaded) for answer in answers) == 1


async def test_the_models_time_leaves_out_the_wait_for_a_turn_of_ours(
    triton: LocalTriton, toy_repository: Path, prefix: str
) -> None:
    videos = [Video(session_id=name) for name in "ab"]
    async with triton_engine(
        triton.url, "toy", in_flight=1, memory=SharedMemory(prefix=prefix)
    ) as engine:
        for video in videos:
            await video.append(engine, 1, 2)
        begun = time.monotonic()
        with paused(toy_repository) as held:
            tasks = [asyncio.create_task(video.append(engine, 3, 4)) for video in videos]
            await until(held.exists)
            await asyncio.sleep(1.0)
        answers = await asyncio.gather(*tasks)
        took_s = time.monotonic() - begun
    # They ran one after the other.
    assert sum(answer.engine_s for answer in answers) <= took_s


async def test_nobody_answering_is_said_in_one_line() -> None:
    with pytest.raises(Misconfigured, match="TAMVT_TRITON_URL"):
        async with triton_engine("127.0.0.1:9", "toy", start_deadline_s=0.3):
            pass


async def test_a_model_that_is_not_served_is_said_in_one_line(triton: LocalTriton) -> None:
    with pytest.raises(Misconfigured, match="'missing'"):
        async with triton_engine(triton.url, "missing", start_deadline_s=0.3):
            pass


async def test_the_engine_is_ready_while_triton_serves_the_model(engine: TritonEngine) -> None:
    await engine.ready()
    assert engine.spec.name == "toy"
    assert picture(0).frame.shape == (*engine.spec.buckets.sizes[0], 3)


async def test_a_closed_engine_is_not_ready(triton: LocalTriton, prefix: str) -> None:
    async with triton_engine(triton.url, "toy", memory=SharedMemory(prefix=prefix)) as engine:
        await Video().append(engine, 1, 2)
    with pytest.raises(EngineUnavailable):
        await engine.ready()
    assert regions(prefix) == []


async def test_a_region_that_triton_cannot_open_is_one_warning_and_inline_tensors(
    triton: LocalTriton, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # As with a Triton on another host: the file is here, and not there.
    videos = [Video(session_id=name) for name in "ab"]
    caplog.set_level(logging.WARNING)
    async with triton_engine(
        triton.url, "toy", memory=SharedMemory(folder=tmp_path, prefix=prefix)
    ) as engine:
        for first in (1, 3, 5):
            for video in videos:
                answer = await video.append(engine, first, first + 1)
                assert (answer.masks == true_masks(first, first + 1)).all()
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "tensors go to Triton inline, which is slower"
    ]
    assert [video.rebuilds for video in videos] == [1, 1]
    assert os.listdir(tmp_path) == []
