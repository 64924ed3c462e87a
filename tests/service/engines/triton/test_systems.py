"""Models that carry a state, or whose masks compete: the same bits in both engines, and rebuilt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from model.core.contract import METADATA_KEY, ModelSpec
from model.export.triton.repository import write_repository
from service.engines.base import Engine
from service.engines.embedded import embedded_engine
from service.engines.triton.engine import SharedMemory, triton_engine
from service.errors import EngineUnavailable, ModelMismatch
from service.local.triton import LocalTriton, local_triton
from tests.support.scenes import clip
from tests.support.small_models import SMALL_GRAPHS
from tests.support.videos import Video

pytestmark = pytest.mark.anyio
NAMES = ("qmvos-mobile", "stm-mobile")  # with a state and entries by memorize; without both
LOST = ((), (2,), (), (1, 2), (1,), ())


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTriton]:
    """A Triton with both models."""
    repository = tmp_path_factory.mktemp("family")
    for name in NAMES:
        write_repository(SMALL_GRAPHS, name, repository, threads=1)
    with local_triton(repository) as server:
        yield server


@asynccontextmanager
async def engines(
    where: str, name: str, server: LocalTriton, prefix: str
) -> AsyncIterator[tuple[Engine, Engine]]:
    """The engine under test, and the embedded one to compare it with."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(embedded_engine(SMALL_GRAPHS, name, threads=1))
        if where == "embedded":
            yield (
                await stack.enter_async_context(embedded_engine(SMALL_GRAPHS, name, threads=1)),
                here,
            )
        else:
            memory = SharedMemory(prefix=prefix) if where == "shared memory" else None
            opened = triton_engine(server.url, name, memory=memory)
            yield await stack.enter_async_context(opened), here


@pytest.mark.parametrize("where", ["embedded", "shared memory", "inline"])
@pytest.mark.parametrize("name", NAMES)
async def test_masks_are_the_same_bits_kept_rebuilt_and_in_the_other_engine(
    family: LocalTriton, prefix: str, where: str, name: str
) -> None:
    """Three objects in a bucket of four; some are lost, and every other clip is not remembered."""
    kept, rebuilt, other = (Video(session_id=each, object_ids=(1, 2, 3)) for each in "abc")
    async with engines(where, name, family, prefix) as (engine, embedded):
        for frame, lost in enumerate(LOST, start=1):
            await engine.discard("b")
            found = [
                await video.append(each, frame, frame, lost=lost)
                for video, each in ((kept, engine), (rebuilt, engine), (other, embedded))
            ]
            frames = clip(10 + frame, 10 + frame, (1, 2, 3))
            await engine.discard("b")
            found += [
                await video.look(each, frames)
                for video, each in ((kept, engine), (rebuilt, engine), (other, embedded))
            ]
            for answers in (found[:3], found[3:]):
                assert all((answer.masks == answers[0].masks).all() for answer in answers)
                assert all((each.confidence == answers[0].confidence).all() for each in answers)
            assert kept.stored == rebuilt.stored == other.stored
    assert (kept.rebuilds, rebuilt.rebuilds) == (1, 2 * len(LOST))


@pytest.mark.parametrize("where", ["embedded", "shared memory", "inline"])
async def test_a_lease_tells_when_it_had_to_make_the_state_anew(
    family: LocalTriton, prefix: str, where: str
) -> None:
    """Of entries alone a state is another one, so the masks differ."""
    video, other = Video(session_id="a"), Video(session_id="b")
    async with engines(where, NAMES[0], family, prefix) as (engine, _):
        for one in (video, other):
            assert (await one.append(engine, 1, 1)).state_rebuilt  # a session begins so
            assert not (await one.look(engine, clip(2, 2))).state_rebuilt
            await engine.discard(one.session_id)
        assert other.stored is not None
        other.stored = other.stored[:-9]
        answers = [await one.append(engine, 3, 3) for one in (video, other)]
        assert [answer.state_rebuilt for answer in answers] == [False, True]
        assert (answers[0].masks != answers[1].masks).any()


@pytest.mark.parametrize("where", ["embedded", "shared memory", "inline"])
async def test_a_bank_that_is_lost_after_a_clip_is_not_rebuilt_in_its_lease(
    family: LocalTriton, prefix: str, where: str
) -> None:
    """The memory is the same if the clip was not remembered, but the state is not."""
    video, frames = Video(), clip(1, 1)
    async with engines(where, NAMES[0], family, prefix) as (engine, _), video.lease(engine) as bank:
        await bank.segment(frames, before=video.memory, object_ids=[1])
        lost = asyncio.create_task(bank.segment(frames, before=video.memory, object_ids=[1]))
        await asyncio.sleep(0)
        lost.cancel()
        await asyncio.wait([lost])
        with pytest.raises(EngineUnavailable, match="lost in the middle"):
            await bank.segment(frames, before=video.memory, object_ids=[1])


async def test_a_state_of_another_size_than_claimed_is_refused_at_the_start(
    tmp_path: Path,
) -> None:
    name = NAMES[0]
    for path in SMALL_GRAPHS.glob(f"{name}*"):
        data = path.read_bytes()
        if path.suffix == ".onnx":
            graph = onnx.load_from_string(data)
            (spec,) = (entry for entry in graph.metadata_props if entry.key == METADATA_KEY)
            claim = ModelSpec.from_json(spec.value)
            hidden = replace(claim.state[0], stride=8)
            spec.value = replace(claim, state=(hidden, *claim.state[1:])).to_json()
            data = graph.SerializeToString()
        (tmp_path / path.name).write_bytes(data)
    with pytest.raises(ModelMismatch, match="does not do what it claims"):
        async with embedded_engine(tmp_path, name, threads=1):
            pass
