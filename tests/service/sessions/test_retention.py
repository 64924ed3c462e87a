"""The oldest masks of a long session: what is no longer kept is answered nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, problem, running_service

KEPT, BATCH = 1000, 62
NEXT = 1 + 17 * BATCH  # after so many appends some frames are no longer kept
OLDEST = NEXT - KEPT


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Running]:
    state, settings = tmp_path_factory.mktemp("state"), {"TAMVT_KEPT_FRAMES": str(KEPT)}
    with running_service(state=state, weights=toy_folder, settings=settings) as service:
        yield service


@pytest.fixture(scope="module")
def service(gateway: Running) -> Iterator[Api]:
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as http:
        yield Api(http)


@pytest.fixture(scope="module")
def session(service: Api) -> str:
    """A session whose first frames are no longer kept."""
    started = service.start(clip_length=2)
    for first in range(1, NEXT, BATCH):
        answer = service.append(started, images(first, BATCH), first=first)
        assert answer.status_code == 200, answer.text
    return started


def images(first: int, count: int) -> list[bytes]:
    return [scene.jpeg(number) for number in range(first, first + count)]


def test_the_oldest_mask_that_is_kept_is_answered(service: Api, session: str) -> None:
    frames = service.masks(session, from_=OLDEST, to=OLDEST).json()["frames"]
    assert [frame["frame"] for frame in frames] == [OLDEST]


def test_a_mask_that_is_no_longer_kept_is_unknown(service: Api, session: str) -> None:
    answer = service.masks(session, from_=OLDEST - 1)
    assert problem(answer) == (404, "unknown-frame")
    assert f"frames {OLDEST} to {NEXT - 1} are kept" in answer.json()["detail"]
    png = service.http.get(f"/v1/sessions/{session}/masks/{OLDEST - 1}.png")
    assert problem(png) == (404, "unknown-frame")


def test_frames_that_are_kept_are_judged_by_their_own_digests(service: Api, session: str) -> None:
    again = service.append(session, images(OLDEST, 3), first=OLDEST)
    assert again.headers["Idempotent-Replay"] == "true"
    assert [frame["frame"] for frame in again.json()["frames"]] == [OLDEST, OLDEST + 1, OLDEST + 2]
    changed = service.append(session, images(OLDEST + 1, 1), first=OLDEST)
    assert problem(changed) == (409, "frame-changed")


def test_a_replay_of_frames_that_are_no_longer_kept_is_a_conflict(
    service: Api, session: str
) -> None:
    answer = service.append(session, images(OLDEST - 1, 3), first=OLDEST - 1)
    assert problem(answer) == (409, "conflict")
    assert answer.json()["expected"] == NEXT
    assert "no longer kept" in answer.json()["detail"]


def test_a_stream_replays_from_the_oldest_mask_that_is_kept(gateway: Running, session: str) -> None:
    with talk(gateway.url, session, from_=OLDEST) as stream:
        heard = stream.hear_masks(KEPT)
    assert [masks["frame"] for masks in heard] == list(range(OLDEST, NEXT))
    with talk(gateway.url, session, ready=False, from_=OLDEST - 1) as stream:
        assert stream.hear_error() == (4409, "conflict")


def test_a_stream_replays_no_frame_that_is_no_longer_kept(gateway: Running, session: str) -> None:
    """An image that was sent before is judged by the frame of its number, which is gone."""
    with talk(gateway.url, session) as stream:
        stream.send_frames([OLDEST - 1])
        assert stream.hear_error() == (4409, "conflict")
