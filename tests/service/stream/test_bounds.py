"""Everything a stream holds is bounded, and what happens to one stream stays there."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from service.errors import EngineUnavailable
from tests.service.stream.conftest import Serve, Served
from tests.service.stream.talk import address, async_talk, frame, objects, small_socket, text
from tests.support import scene
from tests.support.gates import Gate
from tests.support.running import PATIENCE_S

pytestmark = pytest.mark.anyio


async def closed(service: Served, code: int) -> float:
    """How many streams the service has closed with this code."""
    return await service.metric(f'tamvt_streams_closed_total{{code="{code}"}}')


async def until_closed(service: Served, code: int) -> None:
    """Nothing, once the service has closed a stream with this code."""
    async with asyncio.timeout(PATIENCE_S):
        while not await closed(service, code):  # noqa: ASYNC110  (another process counts)
            await asyncio.sleep(0.05)


async def test_frames_past_the_credits_are_refused(serve: Serve) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames(range(1, 10))
            assert await stream.hear_error() == (4400, "bad-message")
            assert "credits" in stream.heard[-1]["problem"]["detail"]
        assert await service.masks(session) == {}
        service.gate.opened.set()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames(range(1, 9))
            await stream.hear_masks(8)


async def test_the_next_clips_are_decoded_while_one_is_worked_on(serve: Serve) -> None:
    gate = Gate()
    async with serve(gate) as service, async_talk(service.url, await service.start()) as stream:
        for first, held_s in ((1, 0.2), (9, 2.0), (17, 20.0)):  # longer, should that be too short
            gate.opened.clear()
            gate.reached.clear()
            await stream.send_frames(range(first, first + 8))
            await gate.reached.wait()
            await asyncio.sleep(held_s)
            gate.opened.set()
            *_, last = await stream.hear_masks(8)
            # It was decoded long before the engine was free for it.
            if last["timing"]["queue_ms"] > 1000 * held_s / 2:
                return
    pytest.fail("the last clip was decoded only when the engine was free for it")


async def test_a_message_before_ready_is_refused(serve: Serve) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as first:
            await first.send_frames([1, 2])
            await service.gate.reached.wait()
            # The second one is not ready until the first one's clip is done.
            async with async_talk(service.url, session, ready=False) as second:
                await second.send_frames([1])
                assert await second.hear_error() == (4400, "bad-message")
                assert "before ready" in second.heard[-1]["problem"]["detail"]
            service.gate.opened.set()


async def test_the_stream_that_is_replaced_finishes_its_clip(serve: Serve) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as first:
            await first.send_frames([1, 2, 3])
            await service.gate.reached.wait()
            async with async_talk(service.url, session, ready=False, from_=1) as second:
                await asyncio.sleep(0.2)
                service.gate.opened.set()
                assert (await second.hear())["next_frame"] == 3
                assert len(await second.hear_masks(2)) == 2
            assert await first.hear_close() == 4001
            assert [message["type"] for message in first.heard] == [
                "ready",
                "masks",
                "masks",
                "bye",
            ]


async def test_a_stream_on_another_gateway_takes_over(serve: Serve) -> None:
    async with serve() as here, serve() as there:
        session = await here.start()
        async with (
            async_talk(here.url, session) as first,
            async_talk(there.url, session) as second,
        ):
            assert await first.hear() == {"type": "bye", "reason": "replaced", "resume": False}
            assert await first.hear_close() == 4001
            await second.send_frames([1, 2])
            await second.hear_masks(2)


async def test_a_stream_resumes_on_the_other_gateway(serve: Serve) -> None:
    async with serve() as here, serve() as there:
        session, undisturbed = await here.start(), await here.start()
        await here.append(undisturbed, 1, 8)
        async with async_talk(here.url, session) as stream:
            await stream.send_frames([1, 2, 3])
            first = await stream.hear_masks(2)
        async with async_talk(there.url, session, from_=1) as stream:
            assert stream.heard[0]["next_frame"] == 3
            replayed = await stream.hear_masks(2)
            assert objects(replayed) == objects(first)
            await stream.send_frames(range(3, 9))
            rest = await stream.hear_masks(6)
        assert objects([*first, *rest]) == await here.masks(undisturbed)


async def test_what_was_committed_but_not_heard_is_replayed(serve: Serve) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames([1, 2])
            await service.gate.reached.wait()
        service.gate.opened.set()
        async with async_talk(service.url, session, from_=1) as stream:
            begin = stream.heard[0]["next_frame"]
            replayed = await stream.hear_masks(begin - 1)
            await stream.send_frames(range(begin, 5))
            fresh = await stream.hear_masks(5 - begin)
        assert objects([*replayed, *fresh]) == await service.masks(session)


async def test_a_client_that_never_reads_disturbs_nobody(serve: Serve) -> None:
    async with serve(stream_stall_s=1000) as service:
        stuck, other = await service.start(), await service.start()
        await service.append(stuck, 1, 600)
        with small_socket(service.url) as wire:
            async with async_talk(
                service.url, stuck, ready=False, sock=wire, from_=0, masks="png"
            ) as silent:
                async with async_talk(service.url, other) as stream:
                    for first in range(1, 41, 2):
                        await stream.send_frames([first, first + 1])
                        await stream.hear_masks(2)
                assert not await closed(service, 1013)
                silent.socket.transport.abort()


async def test_a_client_that_never_reads_is_closed_and_may_go_on(serve: Serve) -> None:
    async with serve(stream_stall_s=0.5) as service:
        stuck = await service.start()
        await service.append(stuck, 1, 600)
        with small_socket(service.url) as wire:
            async with async_talk(
                service.url, stuck, ready=False, sock=wire, from_=0, masks="png"
            ) as silent:
                await until_closed(service, 1013)
                # It wakes up, reads what was on its way, and hears why.
                assert await silent.hear_close() == 1013
                last = max(m["frame"] for m in silent.heard if m["type"] == "masks")
        async with async_talk(service.url, stuck, from_=last + 1) as stream:
            replayed = await stream.hear_masks(600 - last)
        assert [masks["frame"] for masks in replayed] == list(range(last + 1, 601))


async def test_a_slow_reader_gets_everything(serve: Serve) -> None:
    async with serve(stream_stall_s=30) as service:
        session = await service.start()
        await service.append(session, 1, 300)
        with small_socket(service.url) as wire:
            async with async_talk(service.url, session, sock=wire, from_=1, masks="png") as stream:
                found = []
                for _ in range(300):
                    found.append((await stream.hear())["frame"])
                    await asyncio.sleep(0.002)
        assert found == list(range(1, 301))


async def test_a_stream_without_messages_is_closed(serve: Serve) -> None:
    async with serve(stream_idle_s=0.5) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            assert await stream.hear_error() == (4408, "idle")


async def test_a_client_that_answers_no_ping_is_reaped(serve: Serve) -> None:
    async with serve(stream_ping_s=0.3) as service:
        session = await service.start()
        async with dead_stream(service.url, session) as reader:
            begin = time.monotonic()
            await reader.read()  # until the service closes the connection
            assert time.monotonic() - begin > 0.5
        await until_closed(service, 1006)


@asynccontextmanager
async def dead_stream(url: str, session: str) -> AsyncIterator[asyncio.StreamReader]:
    """A stream that was opened, and never answers."""
    reader, writer = await asyncio.open_connection(httpx.URL(url).host, httpx.URL(url).port)
    path = address("", session).removeprefix("ws")
    key = base64.b64encode(bytes(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Protocol: tamvt.v1\r\n\r\n".encode()
    )
    yield reader
    writer.close()


async def test_one_stream_too_many_is_refused(serve: Serve) -> None:
    async with serve(max_streams=1) as service:
        first, second = await service.start(), await service.start()
        async with async_talk(service.url, first) as stream:
            async with async_talk(service.url, second, ready=False) as refused:
                assert await refused.hear_error() == (1013, "overloaded")
            await stream.send(text("end"))
            assert await stream.hear_close() == 1000
        async with async_talk(service.url, second):
            pass


async def test_streams_are_counted_by_tenant(serve: Serve) -> None:
    async with serve(max_tenant_streams=1, tenant_header="X-Tenant") as service:
        ann, ben = {"X-Tenant": "ann"}, {"X-Tenant": "ben"}
        sessions = []
        for tenant in (ann, ben, ann):
            service.http.headers.update(tenant)
            sessions.append(await service.start())
        async with async_talk(service.url, sessions[0], headers=ann):
            async with async_talk(service.url, sessions[1], headers=ben):
                pass
            async with async_talk(service.url, sessions[2], headers=ann, ready=False) as refused:
                assert await refused.hear_error() == (4429, "too-many")
                assert refused.heard[-1]["problem"]["limit"] == 1


async def test_frames_in_flight_hold_no_more_bytes_than_allowed(serve: Serve) -> None:
    async with serve(Gate(), max_request_bytes=350_000) as service:
        first, second = await service.start(), await service.start()
        image = scene.jpeg(1) + bytes(200_000)
        async with async_talk(service.url, first, max_wait_ms=0) as working:
            await working.send(frame(1, image))
            await service.gate.reached.wait()
            async with async_talk(service.url, second) as refused:
                await refused.send(frame(1, image))
                assert await refused.hear_error() == (1013, "overloaded")
        service.gate.opened.set()
        async with async_talk(service.url, second) as stream:
            for number in range(1, 9, 2):
                pair = (number, number + 1)
                await stream.send(*(frame(n, scene.jpeg(n) + bytes(150_000)) for n in pair))
                await stream.hear_masks(2)


async def test_an_engine_that_is_away_can_be_resumed_from(serve: Serve) -> None:
    gate = Gate(failure=EngineUnavailable("the model is away", retry_after_s=2.5))
    async with serve(gate) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames([1, 2])
            assert await stream.hear_error() == (1013, "engine-unavailable")
            assert stream.heard[-1]["problem"]["retry_after_s"] == 2.5
        gate.failure = None
        gate.opened.set()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames([1, 2])
            await stream.hear_masks(2)


async def test_an_unexpected_error_is_told_without_details(serve: Serve) -> None:
    async with serve(Gate(failure=RuntimeError("the secret of the house"))) as service:
        session = await service.start()
        async with async_talk(service.url, session) as stream:
            await stream.send_frames([1, 2])
            assert await stream.hear_error() == (1011, "internal-error")
            assert "secret" not in str(stream.heard)
