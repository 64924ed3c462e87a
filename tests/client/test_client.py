"""Both Python clients against the real service, some of it behind a relay that fails."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tenacity import RetryCallState

from model.core.encoding import encode_polygons
from model.core.j_and_f import jaccard
from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from tamvt_client import (
    AsyncClient,
    Busy,
    Client,
    FrameConflict,
    ImageInput,
    NotFound,
    ObjectPrompt,
    Rejected,
    Retry,
    ServiceFault,
    SessionOptions,
    SessionOut,
    TimedOut,
    UnexpectedResponse,
    Unreachable,
    encode_rle,
)
from tests.support import scene
from tests.support.faulty_relay import Fault, relay_to
from tests.support.running import Running

QUICK = Retry(attempts=4, first_s=0.01, most_s=0.02)
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.url, retry=QUICK) as client:
        yield client


@pytest.fixture
def session(client: Client) -> SessionOut:
    return client.start(scene.png(0), scene.mask())


def images(first: int, last: int) -> list[ImageInput]:
    return [scene.png(number) for number in range(first, last + 1)]


def start_one(client: Client) -> str:
    return client.start(scene.png(0), scene.mask()).session_id


def test_a_session_tells_what_was_started(client: Client) -> None:
    options = SessionOptions(clip_length=3, memory_size=5, memory_gate=True, labels={1: "square"})
    session = client.start(scene.png(0), scene.mask(objects=2), options=options)
    assert (session.frame_size, session.next_frame) == ((scene.HEIGHT, scene.WIDTH), 1)
    assert (session.model, session.clip_length, session.memory_size) == ("toy", 3, 5)
    assert session.memory_gate is True
    assert [(item.object_id, item.label) for item in session.objects] == [(1, "square"), (2, None)]
    assert session.expires_at.tzinfo is not None


def test_tracked_masks_are_those_of_the_video(client: Client) -> None:
    session = client.start(scene.png(0, objects=2), scene.mask(objects=2))
    frames = (scene.png(number, objects=2) for number in range(1, 12))
    found = list(client.track(session.session_id, frames, frames_per_append=4))
    assert [masks.frame for masks in found] == list(range(1, 12))
    for masks in found:
        truth = scene.labels(masks.frame, objects=2)
        assert (masks.label_map(session.frame_size) == truth).mean() > 0.97


@pytest.mark.parametrize("kind", ["bytes", "path", "array"])
def test_an_image_is_bytes_a_path_or_an_array(client: Client, tmp_path: Path, kind: str) -> None:
    (tmp_path / "frame.png").write_bytes(scene.png(0))
    (tmp_path / "mask.png").write_bytes(scene.mask())
    given: dict[str, tuple[ImageInput, bytes | Path | NDArray[np.uint8]]] = {
        "bytes": (scene.png(0), scene.mask()),
        "path": (tmp_path / "frame.png", tmp_path / "mask.png"),
        "array": (scene.picture(0), scene.labels(0)),
    }
    session = client.start(*given[kind])
    assert [item.object_id for item in session.objects] == [1]


def test_a_boolean_mask_is_object_one(client: Client) -> None:
    session = client.start(scene.picture(0), scene.labels(0) == 1)
    assert [item.object_id for item in session.objects] == [1]


def test_objects_can_be_given_as_shapes(client: Client) -> None:
    square = scene.labels(0) == 1
    rle = encode_rle(square)
    prompts = [
        ObjectPrompt(object_id=1, label="run", rle=rle),
        ObjectPrompt(object_id=2, polygons=tuple(map(tuple, encode_polygons(square)))),
        ObjectPrompt(object_id=3, box=(8, 8, scene.SIDE, scene.SIDE)),
    ]
    session = client.start(scene.png(0), objects=prompts)
    (given,) = client.masks(session.session_id)
    assert [item.label for item in session.objects] == ["run", None, None]
    for item in given.objects:
        assert jaccard(item.mask(session.frame_size), square) > 0.9
        assert item.state == "human"


def test_a_start_needs_one_kind_of_objects(client: Client) -> None:
    with pytest.raises(ValueError, match="either a mask or objects"):
        client.start(scene.png(0))


def test_polygons_follow_the_mask(client: Client, session: SessionOut) -> None:
    answer = client.append(session.session_id, images(1, 1), first_frame=1, format="polygons")
    (item,) = answer.frames[0].objects
    assert item.rle is None
    assert jaccard(item.mask(session.frame_size), scene.labels(1) == 1) > 0.9


def test_a_video_file_is_appended(client: Client, session: SessionOut, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(scene.video(range(8)))
    answer = client.append_video(
        session.session_id, tmp_path / "video.mp4", first_frame=1, skip=1, count=5
    )
    assert [masks.frame for masks in answer.frames] == [1, 2, 3, 4, 5]
    assert answer.next_frame == 6


def test_an_append_tells_the_time_it_took(client: Client, session: SessionOut) -> None:
    answer = client.append(session.session_id, images(1, 2), first_frame=1)
    assert answer.timing
    assert all(milliseconds >= 0 for milliseconds in answer.timing.values())


def test_stored_masks_are_those_that_were_answered(client: Client, session: SessionOut) -> None:
    found = list(client.track(session.session_id, images(1, 6)))
    assert list(client.masks(session.session_id, first=1)) == found
    assert list(client.masks(session.session_id, first=2, last=4)) == found[1:4]


def test_stored_masks_are_read_over_several_pages(client: Client, session: SessionOut) -> None:
    frames = (scene.jpeg(number) for number in range(1, 511))
    answered = list(client.track(session.session_id, frames, frames_per_append=64))
    assert list(client.masks(session.session_id, first=1)) == answered


def test_a_mask_is_read_as_a_png(client: Client, session: SessionOut) -> None:
    png = client.mask_png(session.session_id, 0)
    assert (read_label_map(png, ImageLimits()) == scene.labels(0)).all()


def test_the_session_is_read_again(client: Client, session: SessionOut) -> None:
    client.append(session.session_id, images(1, 2), first_frame=1)
    assert client.session(session.session_id).next_frame == 3


def test_a_deleted_session_is_not_found(client: Client, session: SessionOut) -> None:
    client.delete(session.session_id)
    with pytest.raises(NotFound, match="unknown or expired") as caught:
        client.session(session.session_id)
    assert caught.value.problem.status == 404


def test_the_served_models_are_listed(client: Client) -> None:
    (model,) = client.models()
    assert (model.name, model.clip_length, model.memory_size) == ("toy", 2, 9)
    assert (model.memory_gate, model.lost_below) == (False, None)


def test_a_frame_that_is_not_due_names_the_one_that_is(client: Client, session: SessionOut) -> None:
    with pytest.raises(FrameConflict, match="frame 1 comes next") as caught:
        client.append(session.session_id, images(5, 6), first_frame=5)
    assert caught.value.expected == 1


def test_a_refusal_carries_the_problem(client: Client, session: SessionOut) -> None:
    with pytest.raises(Rejected) as caught:
        client.append(session.session_id, [b"no image"], first_frame=1)
    assert caught.value.problem.type == "/problems/bad-image"
    assert str(caught.value) == caught.value.problem.detail


@pytest.mark.parametrize("fault", ["busy", "drop", "lose answer"])
def test_an_append_is_sent_again_and_answered_the_same(
    running: Running, client: Client, fault: Fault
) -> None:
    expected = client.append(start_one(client), images(1, 4), first_frame=1).frames
    session_id = start_one(client)
    with (
        relay_to(running.url, [fault, fault]) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
    ):
        answer = unlucky.append(session_id, images(1, 4), first_frame=1)
    assert answer.frames == expected
    assert len(relay.seen) == 3


def test_a_start_is_not_sent_again_once_it_may_have_happened(running: Running) -> None:
    with (
        relay_to(running.url, ["lose answer"]) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
        pytest.raises(Unreachable),
    ):
        start_one(unlucky)
    assert len(relay.seen) == 1


def test_a_start_is_sent_again_to_a_busy_service(running: Running) -> None:
    with relay_to(running.url, ["busy"]) as relay, Client(relay.url, retry=QUICK) as unlucky:
        assert start_one(unlucky)


def test_a_service_that_stays_busy_is_given_up(running: Running) -> None:
    with (
        relay_to(running.url, ["busy"] * 10) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
        pytest.raises(Busy, match="full"),
    ):
        unlucky.models()
    assert len(relay.seen) == QUICK.attempts


def test_the_service_says_how_long_to_wait(running: Running) -> None:
    with relay_to(running.url, ["busy"]) as relay, Client(relay.url, retry=QUICK) as unlucky:
        relay.retry_after_s = 0.3
        started = time.monotonic()
        unlucky.models()
    assert time.monotonic() - started >= 0.3


def test_a_refusal_is_never_sent_again(running: Running) -> None:
    with (
        relay_to(running.url, []) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
        pytest.raises(NotFound),
    ):
        unlucky.session("unknown")
    assert len(relay.seen) == 1


def test_silence_ends_at_the_deadline(running: Running) -> None:
    with (
        relay_to(running.url, ["stall"]) as relay,
        Client(relay.url, deadline_s=2.0, retry=QUICK) as unlucky,
        pytest.raises(TimedOut, match="GET /v1/models"),
    ):
        unlucky.models()
    assert len(relay.seen) == 1


def test_a_proxy_that_fails_in_its_own_words_is_a_fault(running: Running) -> None:
    with (
        relay_to(running.url, ["proxy error"]) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
        pytest.raises(ServiceFault, match="Bad Gateway"),
    ):
        unlucky.models()


def test_an_answer_of_something_else_is_unexpected(running: Running) -> None:
    with (
        relay_to(running.url, ["nonsense"]) as relay,
        Client(relay.url, retry=QUICK) as unlucky,
        pytest.raises(UnexpectedResponse, match="GET /v1/models"),
    ):
        unlucky.models()


def test_nobody_there_is_unreachable() -> None:
    with Client(NOBODY, retry=QUICK) as client, pytest.raises(Unreachable):
        client.models()


def test_both_clients_have_the_same_calls() -> None:
    def calls(client: type) -> dict[str, list[str]]:
        named = {name: call for name, call in vars(client).items() if not name.startswith("_")}
        return {name: list(inspect.signature(call).parameters) for name, call in named.items()}

    assert calls(Client) == calls(AsyncClient)


def test_waits_grow_and_are_spread() -> None:
    retry = Retry(first_s=1.0, most_s=4.0)

    def wait_s(attempt: int) -> float:
        state = RetryCallState(retry.retrying(lambda error: True), None, (), {})
        state.attempt_number = attempt
        return retry.wait_s(state)

    waits = {attempt: [wait_s(attempt) for _ in range(300)] for attempt in (1, 2, 3, 9)}
    for attempt, bound in {1: 1.0, 2: 2.0, 3: 4.0, 9: 4.0}.items():
        assert 0 <= min(waits[attempt]) < bound / 4
        assert bound * 3 / 4 < max(waits[attempt]) <= bound


@pytest.mark.anyio
async def test_the_async_client_gives_the_same_masks(running: Running, client: Client) -> None:
    async def frames() -> AsyncIterator[ImageInput]:
        for number in range(1, 8):
            yield scene.png(number)

    expected = list(client.track(start_one(client), images(1, 7), frames_per_append=4))
    async with AsyncClient(running.url, retry=QUICK) as other:
        session_id = (await other.start(scene.png(0), scene.mask())).session_id
        found = [m async for m in other.track(session_id, frames(), frames_per_append=4)]
        assert found == expected
        assert [m async for m in other.masks(session_id, first=1)] == expected
        assert (await other.session(session_id)).next_frame == 8
        assert await other.mask_png(session_id, 3) == client.mask_png(session_id, 3)
        await other.delete(session_id)
        with pytest.raises(NotFound):
            await other.session(session_id)


@pytest.mark.anyio
async def test_the_async_client_takes_videos_and_lists_models(running: Running) -> None:
    async with AsyncClient(running.url, retry=QUICK) as client:
        session = await client.start(scene.png(0), scene.mask())
        video = scene.video(range(1, 4))
        answer = await client.append_video(session.session_id, video, first_frame=1)
        assert answer.next_frame == 4
        assert await client.models()


@pytest.mark.anyio
@pytest.mark.parametrize("fault", ["busy", "drop", "lose answer"])
async def test_the_async_client_sends_an_append_again(
    running: Running, client: Client, fault: Fault
) -> None:
    session_id = start_one(client)
    with relay_to(running.url, [fault]) as relay:
        async with AsyncClient(relay.url, retry=QUICK) as unlucky:
            answer = await unlucky.append(session_id, images(1, 2), first_frame=1)
    assert answer.next_frame == 3
    assert len(relay.seen) == 2
