"""What a well-behaved client sees of a stream, on the real service."""

from __future__ import annotations

import struct
import time
from socket import SHUT_RDWR
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map
from tests.service.stream.talk import HEADER, PATIENT, objects, talk, text
from tests.support import scene
from tests.support.running import Api, Running


@pytest.fixture
def session(api: Api) -> str:
    return api.start()


def stored(api: Api, session: str, *, first: int = 1) -> dict[int, Any]:
    return objects(api.masks(session, from_=first).json()["frames"])


def appended(api: Api, *numbers: int) -> dict[int, Any]:
    """The masks of these frames of the scene, as REST gives them."""
    session = api.start()
    images = [scene.jpeg(number) for number in numbers]
    return objects(api.append(session, images, first=1).json()["frames"])


def test_a_stream_gives_the_masks_that_an_append_gives(
    running: Running, api: Api, session: str
) -> None:
    with talk(running.url, session) as stream:
        assert stream.heard[0] == {"type": "ready", "next_frame": 1, "credits": 8}
        stream.send_frames(range(1, 9))
        found = stream.hear_masks(8)
    assert objects(found) == appended(api, *range(1, 9)) == stored(api, session)


def test_masks_carry_their_frames_timestamp(running: Running, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2])
        assert [m["timestamp"] for m in stream.hear_masks(2)] == [1000, 2000]


def test_timing_adds_up(running: Running, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2])
        timing = stream.hear_masks(2)[0]["timing"]
    stages = ["receive", "decode", "queue", "inference", "encode", "store"]
    assert list(timing) == [f"{stage}_ms" for stage in [*stages, "total"]]
    assert all(milliseconds >= 0 for milliseconds in timing.values())
    assert sum(timing[f"{stage}_ms"] for stage in stages) == pytest.approx(
        timing["total_ms"], abs=0.01
    )


def test_png_masks_follow_their_message(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session, masks="png") as stream:
        stream.send_frames([1, 2])
        for number in (1, 2):
            (told,) = stream.hear_masks(1)
            assert "rle" not in told["objects"][0]
            data = stream.hear_bytes()
            assert HEADER.unpack(data[:16]) == (2, 0, 0, number, 1000 * number)
            png = api.http.get(f"/v1/sessions/{session}/masks/{number}.png").content
            assert data[16:] == png
            labels = read_label_map(png, ImageLimits())
            assert (labels == scene.labels(number)).mean() > 0.97


def test_a_lone_frame_waits_as_long_as_told(running: Running, session: str) -> None:
    with talk(running.url, session, max_wait_ms=300) as stream:
        begin = time.monotonic()
        stream.send_frames([1])
        stream.hear_masks(1)
        assert time.monotonic() - begin >= 0.3


def test_a_lone_frame_waits_no_longer_than_told(running: Running, session: str) -> None:
    with talk(running.url, session, max_wait_ms=300) as stream:
        for number in (1, 2, 3):  # on a busy machine one of them may be late
            begin = time.monotonic()
            stream.send_frames([number])
            stream.hear_masks(1)
            if time.monotonic() - begin < 3:
                return
    pytest.fail("each of three lone frames waited for seconds")


def test_a_clip_of_one_frame_waits_for_nothing(running: Running, api: Api) -> None:
    with talk(running.url, api.start(clip_length=1), max_wait_ms=PATIENT) as stream:
        stream.send_frames([1])
        stream.hear_masks(1)


def test_the_end_finishes_what_is_there(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2, 3])
        stream.send(text("end"))
        stream.hear_masks(3)
        assert stream.hear() == {"type": "bye", "reason": "end", "resume": False}
        assert stream.hear_close() == 1000
    assert list(stored(api, session)) == [1, 2, 3]


def test_an_ack_is_taken(running: Running, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2])
        stream.hear_masks(2)
        stream.send(text("ack", frame=2), text("end"))
        assert stream.hear_close() == 1000


@pytest.mark.parametrize("first", [0, 1, 3, 5])
def test_a_resume_replays_what_is_stored(
    running: Running, api: Api, session: str, first: int
) -> None:
    api.append(session, [scene.jpeg(number) for number in range(1, 5)], first=1)
    with talk(running.url, session, from_=first) as stream:
        assert stream.heard[0]["next_frame"] == 5
        found = stream.hear_masks(5 - first)
        assert all(masks["timestamp"] is None for masks in found)
        stream.send_frames([5, 6])
        fresh = stream.hear_masks(2)
    assert objects([*found, *fresh]) == stored(api, session, first=first)


def test_a_long_replay_is_whole(running: Running, api: Api, session: str) -> None:
    for first in range(1, 257, 64):
        api.append(session, [scene.jpeg(n) for n in range(first, first + 64)], first=first)
    with talk(running.url, session, from_=0) as stream:
        assert [masks["frame"] for masks in stream.hear_masks(257)] == list(range(257))


def test_a_replay_takes_no_credits(running: Running, api: Api, session: str) -> None:
    api.append(session, [scene.jpeg(number) for number in range(1, 21)], first=1)
    with talk(running.url, session, from_=1) as stream:
        stream.send_frames(range(21, 29))
        assert [masks["frame"] for masks in stream.hear_masks(28)] == list(range(1, 29))


def test_a_disconnect_in_the_middle_of_a_clip_harms_nothing(
    running: Running, api: Api, session: str
) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2, 3])
        stream.hear_masks(2)
        stream.socket.socket.shutdown(SHUT_RDWR)
        with pytest.raises(ConnectionClosed):
            stream.hear()
    with talk(running.url, session, from_=3) as stream:
        assert stream.heard[0]["next_frame"] == 3
        stream.send_frames([3, 4])
        stream.hear_masks(2)
    assert stored(api, session) == appended(api, 1, 2, 3, 4)


def test_committed_frames_may_be_sent_again(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2, 3, 4])
        first = stream.hear_masks(4)
        stream.send_frames([2, 3])
        again = stream.hear_masks(2)
        assert objects(again) == {n: objects(first)[n] for n in (2, 3)}
        stream.send_frames([5, 6])
        stream.hear_masks(2)
    assert stored(api, session) == appended(api, *range(1, 7))


def test_the_latest_frames_are_answered_and_the_rest_is_dropped(
    running: Running, api: Api, session: str
) -> None:
    with talk(running.url, session, mode="latest") as stream:
        assert stream.heard[0]["credits"] is None
        stream.send_frames([1, 2])
        stream.hear_masks(2)
        stream.send_frames([7, 8])
        assert stream.hear() == {"type": "dropped", "frames": [3, 4, 5, 6]}
        assert [masks["frame"] for masks in stream.hear_masks(2)] == [7, 8]
        stream.send_frames([5])
        assert stream.hear() == {"type": "dropped", "frames": [5]}
    state = api.state(session)
    assert state["next_frame"] == 9
    assert {o["state"] for o in stored(api, session)[4]} == {"dropped"}
    assert {o["state"] for o in stored(api, session)[8]} == {"visible"}


def test_a_flood_is_answered_with_its_newest_frame(
    running: Running, api: Api, session: str
) -> None:
    with talk(running.url, session, mode="latest", max_wait_ms=0) as stream:
        stream.send_frames(range(1, 201))
        stream.send(text("end"))
        assert stream.hear_close() == 1000
        masks = [m["frame"] for m in stream.heard if m["type"] == "masks"]
        dropped = [n for m in stream.heard if m["type"] == "dropped" for n in m["frames"]]
    assert masks[-1] == 200
    assert sorted(masks + dropped) == list(range(1, 201))
    assert list(stored(api, session)) == list(range(1, 201))


def test_dropped_frames_are_replayed_as_dropped(running: Running, session: str) -> None:
    with talk(running.url, session, mode="latest") as stream:
        stream.send_frames([3, 4])
        stream.send(text("end"))
        stream.hear_close()
    with talk(running.url, session, from_=1) as stream:
        assert stream.hear() == {"type": "dropped", "frames": [1, 2]}
        assert [masks["frame"] for masks in stream.hear_masks(2)] == [3, 4]


def test_an_append_answers_dropped_frames_as_such(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session, mode="latest") as stream:
        stream.send_frames([3, 4])
        stream.send(text("end"))
        stream.hear_close()
    answer = api.append(session, [scene.jpeg(number) for number in range(1, 5)], first=1)
    assert answer.headers["idempotent-replay"] == "true"
    states = [frame["objects"][0]["state"] for frame in answer.json()["frames"]]
    assert states == ["dropped", "dropped", "visible", "visible"]


def test_a_second_stream_takes_over(running: Running, session: str) -> None:
    with talk(running.url, session) as first:
        first.send_frames([1, 2])
        first.hear_masks(2)
        with talk(running.url, session) as second:
            assert second.heard[0]["next_frame"] == 3
            assert first.hear() == {"type": "bye", "reason": "replaced", "resume": False}
            assert first.hear_close() == 4001
            second.send_frames([3, 4])
            second.hear_masks(2)


def test_streams_and_appends_may_take_turns(running: Running, api: Api, session: str) -> None:
    with talk(running.url, session) as stream:
        stream.send_frames([1, 2])
        stream.hear_masks(2)
        api.append(session, [scene.jpeg(3), scene.jpeg(4)], first=3)
        stream.send_frames([3, 4, 5, 6])
        stream.hear_masks(4)
    assert stored(api, session) == appended(api, *range(1, 7))


def test_a_header_is_sixteen_bytes() -> None:
    assert struct.calcsize(HEADER.format) == 16
