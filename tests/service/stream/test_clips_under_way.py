"""What becomes of clips under way when the service drains, or a client leaves or is replaced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis

from tests.service.stream.conftest import Serve, Served
from tests.service.stream.talk import AsyncTalk, async_talk, text
from tests.support import scene
from tests.support.gates import Gate
from tests.support.running import PATIENCE_S
from tests.support.tritons import until

pytestmark = pytest.mark.anyio


async def hold(service: Served, stream: AsyncTalk, *numbers: int) -> None:
    """Send frames whose first clip waits at the gate; wait until the service has them all."""
    await stream.send_frames(numbers)
    sent = sum(len(scene.jpeg(number)) for number in numbers)
    await service.gate.reached.wait()
    await until(lambda: service.admission.held_bytes == sent)


@asynccontextmanager
async def commits_held(redis_url: str) -> AsyncIterator[None]:
    """While inside, Redis answers reads only: a commit that has begun does not end."""
    async with Redis.from_url(redis_url) as redis:
        await redis.client_pause(100_000, all=False)
        try:
            yield
        finally:
            await redis.client_unpause()


async def test_drain_waits_for_every_whole_clip_that_is_here(serve: Serve) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            await hold(service, stream, *range(1, 8))
            draining = asyncio.create_task(service.streams.drain(deadline_s=PATIENCE_S))
            assert await stream.hear() == {"type": "bye", "reason": "shutdown", "resume": True}
            assert not draining.done()
            service.gate.opened.set()
            heard = await stream.hear_masks(6)
            assert [masks["frame"] for masks in heard] == list(range(1, 7))
            assert await stream.hear_close() == 1012
            await draining
        assert list(await service.masks(session)) == list(range(1, 7))


async def test_a_commit_under_way_is_waited_for_though_the_drain_is_over(
    serve: Serve, redis_url: str
) -> None:
    async with serve(gate := Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            gate.opened.set()
            await stream.send_frames([1, 2])  # the bank is built, which reads from Redis
            await stream.hear_masks(2)
            gate.opened.clear()
            gate.reached.clear()
            await hold(service, stream, 3, 4)
            async with commits_held(redis_url):
                service.gate.opened.set()
                await asyncio.sleep(0.5)  # the clip is inferred, and its commit sent
                await service.streams.drain(deadline_s=0.1)  # it has no time left
                stream.socket.transport.abort()  # as a server that stops does
                await asyncio.sleep(0.2)
        await service.streams.drain(deadline_s=PATIENCE_S)
        assert list(await service.masks(session)) == [1, 2, 3, 4]


async def test_a_stream_that_was_taken_over_begins_no_clip(serve: Serve) -> None:
    """It asks before each clip: the look that all streams share comes too late."""
    async with serve() as here, serve() as there:
        session = await here.start()
        async with async_talk(here.url, session) as first, async_talk(there.url, session):
            await first.send_frames([1, 2])
            assert await first.hear_close() == 4001
        assert [message["type"] for message in first.heard] == ["ready", "bye"]
        assert await here.masks(session) == {}


async def test_nothing_of_a_stream_is_left_when_it_has_ended(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()

        async def visit(first: int, *, leave: bool) -> None:
            async with async_talk(service.url, session) as stream:
                await stream.send_frames([first, first + 1, first + 2])
                await stream.hear_masks(2)
                if leave:
                    stream.socket.transport.abort()
                else:
                    await stream.send(text("end"))
                    assert await stream.hear_close() == 1000

        async def tasks() -> int:
            """How many tasks there are while no stream is open."""
            await until(lambda: service.admission.held_bytes == 0)
            async with asyncio.timeout(PATIENCE_S):
                while await service.metric("tamvt_streams_open"):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            return len(asyncio.all_tasks())

        await visit(1, leave=False)
        before = await tasks()
        for first in range(4, 16, 3):
            await visit(first, leave=False)
        await visit(16, leave=True)
        await tasks()
        await until(lambda: len(asyncio.all_tasks()) == before)


async def test_no_stream_is_opened_while_the_service_drains(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        await service.streams.drain(deadline_s=PATIENCE_S)
        async with async_talk(service.url, session, ready=False) as stream:
            assert await stream.hear_close() == 1012
        assert stream.heard == [{"type": "bye", "reason": "shutdown", "resume": True}]
