"""Streams that commit at intervals: masks come first, and nothing is lost or done twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from model.core.palette import write_label_map
from tests.service.stream.conftest import Serve, Served
from tests.service.stream.talk import AsyncTalk, async_talk, frame, objects, text
from tests.support import scene
from tests.support.gates import Gate
from tests.support.running import PATIENCE_S, form

pytestmark = pytest.mark.anyio
SELDOM: dict[str, Any] = {"durable": "interval:5"}
CLIP_BY_CLIP: dict[str, Any] = {}
RESENT, CLIP_END = 1, 3


async def answered(stream: AsyncTalk, *numbers: int) -> list[dict[str, Any]]:
    """The masks of these frames, which are sent."""
    await stream.send_frames(numbers)
    return await stream.hear_masks(len(numbers))


async def next_frame(service: Served, session: str) -> int:
    return int((await service.http.get(f"/v1/sessions/{session}")).json()["next_frame"])


async def appended(service: Served, *clips: Sequence[int]) -> dict[int, Any]:
    """The masks of a session whose appends are these clips."""
    session = await service.start()
    for numbers in clips:
        await service.append(session, numbers[0], numbers[-1])
    return await service.masks(session)


async def test_masks_come_before_their_commit_and_give_credits_back(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, **SELDOM) as stream:
            found = [
                m for first in (1, 9) for m in await answered(stream, *range(first, first + 8))
            ]
            assert {m["durable"] for m in found} == {0}
            assert [m["clip"] for m in found[:3]] == [[1, 2], [1, 2], [3, 4]]
            # Over REST it is as any frame that is not committed.
            assert await next_frame(service, session) == 1
            assert await service.masks(session) == {}
            png = await service.http.get(f"/v1/sessions/{session}/masks/1.png")
            assert png.status_code == 404
            await stream.send(text("end"))
            assert await stream.hear() == {"type": "durable", "frame": 16}
            assert await stream.hear_close() == 1000
        assert await service.masks(session) == objects(found)
        expected = await appended(service, *([n, n + 1] for n in range(1, 17, 2)))
        assert objects(found) == expected


async def test_a_commit_comes_when_it_is_time_though_no_frame_does(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, durable="interval:0.5") as stream:
            await answered(stream, 1, 2)
            assert await stream.hear() == {"type": "durable", "frame": 2}
            assert await next_frame(service, session) == 3
            assert {m["durable"] for m in await answered(stream, 3, 4)} == {2}


async def test_a_stream_keeps_no_bank_that_others_need(serve: Serve) -> None:
    async with serve(bank_bytes=1) as service:
        session = await service.start()
        async with async_talk(service.url, session, **SELDOM) as stream:
            await stream.send_frames([1, 2, 3, 4])
            heard = [await stream.hear() for _ in range(6)]
        assert [message["frame"] for message in heard] == [1, 2, 2, 3, 4, 4]
        assert [message["type"] for message in heard[2::3]] == ["durable", "durable"]


async def test_who_else_wants_the_session_is_not_kept_waiting(serve: Serve) -> None:
    drawn = form([("mask", write_label_map(scene.labels(5)))])
    async with serve(request_deadline_s=4.0) as service:
        found = []
        for query in (SELDOM, CLIP_BY_CLIP):
            session = await service.start()
            path = f"/v1/sessions/{session}"
            async with async_talk(service.url, session, **query) as stream:
                found += await answered(stream, 1, 2)
                given = await service.http.put(f"{path}/objects?frame=2", files=drawn)
                assert given.status_code == 200, given.text
                if query:
                    assert await stream.hear() == {"type": "durable", "frame": 2}
                found += await answered(stream, 3, 4)
                fork = (await service.http.post(f"{path}/fork")).json()
                assert fork["next_frame"] == 5
                if query:
                    assert await stream.hear() == {"type": "durable", "frame": 4}
                await service.append(session, 5, 6)
                found += await answered(stream, 5, 6)
        assert [m["objects"] for m in found[:6]] == [m["objects"] for m in found[6:]]


@pytest.mark.parametrize("how", ["leaves", "sends no image", "drains"])
async def test_what_is_answered_is_committed_however_the_stream_ends(
    serve: Serve, how: str
) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, **SELDOM) as stream:
            found = await answered(stream, 1, 2, 3, 4)
            if how == "leaves":
                stream.socket.transport.abort()
            elif how == "drains":
                await service.streams.drain(deadline_s=PATIENCE_S)
                assert await stream.hear_close() == 1012
            else:
                await stream.send(frame(5, b"none"))
                assert await stream.hear_error() == (4422, "bad-image")
        async with asyncio.timeout(PATIENCE_S):
            while await next_frame(service, session) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await service.masks(session) == objects(found)


async def test_a_stream_that_was_taken_over_elsewhere_commits_nothing(serve: Serve) -> None:
    """It is sent again there: whatever the older one did would come between."""
    async with serve() as here, serve() as there:
        session = await here.start()
        async with async_talk(here.url, session, **SELDOM) as older:
            first = await answered(older, 1, 2, 3, 4)
            async with async_talk(there.url, session, **SELDOM) as newer:
                assert newer.heard[0]["next_frame"] == 1
                flags = (RESENT, CLIP_END, RESENT, CLIP_END)
                await newer.send(*(frame(n, flags=f) for n, f in enumerate(flags, 1)))
                again = await newer.hear_masks(4)
                assert await older.hear_close() == 4001
                await newer.send(text("end"))
                assert await newer.hear_close() == 1000
        assert objects(first) == objects(again) == await there.masks(session)


async def test_frames_that_are_sent_again_are_tracked_in_the_same_clips(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, **SELDOM) as stream:
            await stream.send(
                frame(1, flags=CLIP_END), frame(2, flags=RESENT), frame(3, flags=CLIP_END), frame(4)
            )
            heard = await stream.hear_masks(3)
            assert [m["clip"] for m in heard] == [[1, 1], [2, 3], [2, 3]]
            await stream.send(text("end"))
            heard += await stream.hear_masks(1)
            assert await stream.hear_close() == 1000
        expected = await appended(service, [1], [2, 3], [4])
        assert objects(heard) == expected == await service.masks(session)


async def test_no_frame_that_is_sent_again_is_passed_over(serve: Serve) -> None:
    """In latest mode too, however many come at once; new ones wait behind them."""
    async with serve(Gate()) as service:
        session = await service.start(clip_length=1)
        again = range(2, 32)
        async with async_talk(service.url, session, mode="latest", **SELDOM) as stream:
            sending = asyncio.create_task(
                stream.send(*(frame(n, flags=CLIP_END) for n in again), frame(40), frame(50))
            )
            await service.gate.reached.wait()
            assert service.admission.held_bytes < 10 * len(scene.jpeg(2))
            service.gate.opened.set()
            await sending
            await stream.send(text("end"))
            assert await stream.hear_close() == 1000
        masks = [m["frame"] for m in stream.heard if m["type"] == "masks"]
        assert masks[:30] == list(again)
        assert masks[-1] == 50
        assert list(await service.masks(session)) == list(range(1, 51))


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ({}, [frame(1, flags=CLIP_END)]),
        (SELDOM, [frame(1), frame(2, flags=CLIP_END)]),
        (SELDOM, [frame(1, flags=RESENT), frame(2)]),
        (SELDOM, [frame(n, flags=RESENT) for n in (1, 2, 3)]),
        ({**SELDOM, "mode": "latest"}, [frame(1, flags=RESENT), frame(3, flags=CLIP_END)]),
        (SELDOM, [frame(1, flags=2)]),
    ],
)
async def test_frames_that_are_sent_again_in_no_clip_are_refused(
    serve: Serve, query: dict[str, Any], messages: list[bytes]
) -> None:
    async with serve(Gate()) as service:
        session = await service.start()
        async with async_talk(service.url, session, **query) as stream:
            await stream.send(*messages)
            assert await stream.hear_error() == (4400, "bad-message")


@pytest.mark.parametrize(
    "durable", ["interval", "interval:0.4", "interval:6", "interval:-1", "clip"]
)
async def test_an_interval_that_is_none_is_refused(serve: Serve, durable: str) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, ready=False, durable=durable) as stream:
            assert await stream.hear_error() == (4422, "bad-option")


async def test_a_session_can_go_back_to_each_commit(serve: Serve) -> None:
    async with serve() as service:
        session = await service.start()
        async with async_talk(service.url, session, durable="interval:0.5") as stream:
            await answered(stream, *range(1, 9))
            assert (await stream.hear())["frame"] == 8
            await answered(stream, 9, 10)
            await stream.send(text("end"))
            assert await stream.hear_close() == 1000
        fork = f"/v1/sessions/{session}/fork?at="
        found = [(await service.http.post(f"{fork}{at}")).json()["next_frame"] for at in (7, 8, 10)]
        assert found == [1, 9, 11]
