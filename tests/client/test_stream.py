"""The Python client's stream, sync and async, against the real service."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import count

import pytest

from tamvt_client import (
    AsyncClient,
    Client,
    FrameConflict,
    FrameMasksOut,
    ImageInput,
    NotFound,
    Rejected,
    Replaced,
    Retry,
    StreamedMasks,
    StreamProgress,
    TimedImage,
    Unreachable,
)
from tests.service.stream.balancer import balanced
from tests.service.stream.talk import PATIENT, talk
from tests.support import scene
from tests.support.running import Running

QUICK = Retry(attempts=3, first_s=0.01, most_s=0.02)


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.url, retry=QUICK) as client:
        yield client


@pytest.fixture
def session(client: Client) -> str:
    return client.start(scene.png(0), scene.mask()).session_id


def images(first: int, last: int) -> Iterator[ImageInput]:
    return (scene.jpeg(number) for number in range(first, last + 1))


def shown(masks: Iterable[FrameMasksOut]) -> list[object]:
    return [(item.frame, item.objects) for item in masks]


def test_a_stream_gives_the_masks_of_an_append(client: Client, session: str) -> None:
    other = client.start(scene.png(0), scene.mask()).session_id
    expected = client.track(other, images(1, 30))
    assert shown(client.stream(session, images(1, 30), max_wait_ms=PATIENT)) == shown(expected)


def test_a_context_for_tls_does_not_hinder_a_stream_without_it(
    running: Running, session: str
) -> None:
    with Client(running.url, retry=QUICK, tls=ssl.create_default_context()) as client:
        assert [item.frame for item in client.stream(session, images(1, 2))] == [1, 2]


def test_frames_that_are_committed_are_replayed(client: Client, session: str) -> None:
    first = list(client.stream(session, images(1, 6)))
    again = list(client.stream(session, images(1, 10), first_frame=1))
    assert shown(again[:6]) == shown(first)
    assert [item.frame for item in again] == list(range(1, 11))
    assert again[0].timestamp is None
    assert again[9].timing["total_ms"] > 0


def test_a_timestamp_comes_back(client: Client, session: str) -> None:
    frames = [TimedImage(scene.jpeg(number), 1_000_000 + number) for number in (1, 2)]
    assert [item.timestamp for item in client.stream(session, frames)] == [1_000_001, 1_000_002]


def test_pngs_come_with_their_masks(client: Client, session: str) -> None:
    for item in client.stream(session, images(1, 4), masks="png"):
        assert item.png == client.mask_png(session, item.frame)


def test_progress_is_told(client: Client, session: str) -> None:
    heard: list[StreamProgress] = []
    list(client.stream(session, images(1, 5), on_progress=heard.append))
    assert [now.answered for now in heard] == [0, 1, 2, 3, 4, 5]
    assert heard[-1] == StreamProgress(answered=5, dropped=0, connections=1)


def test_the_latest_frames_are_answered(client: Client, session: str) -> None:
    heard: list[StreamProgress] = []
    found = list(client.stream(session, images(1, 200), mode="latest", on_progress=heard.append))
    assert found[-1].frame == 200
    assert len(found) == heard[-1].answered
    assert client.session(session).next_frame == 201


def test_a_source_may_be_endless_and_be_left(client: Client, session: str) -> None:
    def endless() -> Iterator[ImageInput]:
        number = 0
        while True:
            number += 1
            yield scene.jpeg(number)

    for item in client.stream(session, endless()):
        if item.frame == 10:
            break
    assert client.session(session).next_frame > 10


def test_a_source_that_fails_is_told_after_its_masks(client: Client, session: str) -> None:
    def failing() -> Iterator[ImageInput]:
        yield from images(1, 3)
        raise OSError("the camera is gone")

    found: list[StreamedMasks] = []
    with pytest.raises(OSError, match="camera"):
        found.extend(client.stream(session, failing()))
    assert client.session(session).next_frame == 4


def test_an_image_that_is_wrong_is_a_refusal(client: Client, session: str) -> None:
    with pytest.raises(Rejected) as caught:
        list(client.stream(session, [scene.jpeg(1), scene.jpeg(2), b"no image"]))
    assert caught.value.problem.type == "/problems/bad-image"


def test_an_unknown_session_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        list(client.stream("unknown", images(1, 2)))


def test_a_first_frame_that_is_not_due_is_a_conflict(client: Client, session: str) -> None:
    with pytest.raises(FrameConflict) as caught:
        list(client.stream(session, images(5, 6), first_frame=5))
    assert caught.value.expected == 1


def test_nobody_there_is_unreachable() -> None:
    with Client("http://127.0.0.1:9", retry=QUICK) as client, pytest.raises(Unreachable):
        list(client.stream("any", images(1, 2)))


def test_a_stream_that_is_replaced_says_so(running: Running, client: Client, session: str) -> None:
    def slow() -> Iterator[ImageInput]:
        for number in count(1):  # until the other stream is there
            time.sleep(0.05)
            yield scene.jpeg(number)

    stream = client.stream(session, slow())
    next(stream)
    with talk(running.url, session), pytest.raises(Replaced):
        list(stream)


def test_tickets_are_fetched_for_each_connection(client: Client, session: str) -> None:
    assert len(list(client.stream(session, images(1, 4), with_tickets=True))) == 4


@pytest.mark.anyio
async def test_the_async_stream_resumes_where_it_broke(running: Running, client: Client) -> None:
    expected = shown(
        client.track(client.start(scene.png(0), scene.mask()).session_id, images(1, 40))
    )
    heard: list[StreamProgress] = []
    found: list[StreamedMasks] = []
    async with balanced() as balancer, AsyncClient(balancer.url, retry=QUICK) as other:
        balancer.targets = [running.url]
        session = await other.start(scene.png(0), scene.mask())

        async def frames() -> AsyncIterator[ImageInput]:
            for number, image in enumerate(images(1, 40), 1):
                if number in (9, 23):
                    while len(found) < number - 1:  # noqa: ASYNC110  (the masks so far are here)
                        await asyncio.sleep(0.01)
                    balancer.cut()
                yield image

        stream = other.stream(
            session.session_id, frames(), max_wait_ms=PATIENT, on_progress=heard.append
        )
        async for item in stream:
            found.append(item)  # noqa: PERF401  (the source looks at it meanwhile)
    assert [item.frame for item in found] == list(range(1, 41))
    assert heard[-1].connections == 3
    assert shown(found) == expected


@pytest.mark.anyio
async def test_an_async_stream_may_be_left(running: Running) -> None:
    async with AsyncClient(running.url, retry=QUICK) as client:
        session = await client.start(scene.png(0), scene.mask())

        async def endless() -> AsyncIterator[ImageInput]:
            number = 0
            while True:
                number += 1
                yield scene.jpeg(number)

        stream = client.stream(session.session_id, endless())
        async for item in stream:
            if item.frame == 6:
                break
        await stream.aclose()
        assert (await client.session(session.session_id)).next_frame > 6
