"""Each system of the family is served as the offline loop tracks with it: small, random weights."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.palette import read_label_map, write_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import LIMITS, OfflineFrame, OfflineTracker
from service.local.tracker import Tracker
from tests.service.stream.talk import frame as message
from tests.service.stream.talk import objects, talk
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, form, running_service
from tests.support.small_models import SMALL_GRAPHS, SYSTEMS

FRAMES, CORRECTED = 20, 11
MEMORY_SIZE = 4  # the least that a later frame can be corrected in
IMAGES = [scene.png(number, objects=2) for number in range(FRAMES)]
pytestmark = pytest.mark.parametrize("name", SYSTEMS)


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One service of all systems."""
    state = tmp_path_factory.mktemp("family")
    settings = {"TAMVT_MODELS": ",".join(SYSTEMS)}
    with running_service(state=state, weights=SMALL_GRAPHS, settings=settings) as service:
        yield service


@pytest.fixture
def calls(family: Running) -> Iterator[Api]:
    with httpx.Client(base_url=family.url, timeout=PATIENCE_S) as http:
        yield Api(http)


def start(api: Api, name: str, *, given: int) -> str:
    """A session on the video with two objects, of which so many are given."""
    answer = api.post_start(
        ("frame", IMAGES[0]),
        ("mask", scene.mask(objects=given)),
        ("options", httpx.Response(200, json={"model": name, "memory_size": MEMORY_SIZE}).content),
    )
    assert answer.status_code == 201, answer.text
    return str(answer.json()["session_id"])


def put(api: Api, session: str, labels: NDArray[np.uint8]) -> None:
    files = form([("mask", write_label_map(labels))])
    answer = api.http.put(f"/v1/sessions/{session}/objects", files=files)
    assert answer.status_code == 200, answer.text


def check_alike(api: Api, session: str, wanted: list[OfflineFrame], *, first: int) -> None:
    """The frames of the session from `first` on are those that the offline loop gave."""
    frames = api.masks(session, from_=first).json()["frames"]
    assert len(frames) == len(wanted)
    for found, expected in zip(frames, wanted, strict=True):
        png = api.http.get(f"/v1/sessions/{session}/masks/{found['frame']}.png").content
        assert np.array_equal(read_label_map(png, LIMITS), expected.labels)
        assert tuple(each["confidence"] for each in found["objects"]) == expected.confidence


def test_a_session_follows_as_the_offline_loop_does(calls: Api, name: str) -> None:
    """Also after corrections of one frame, which count once: a new object, then both."""
    runtime = GraphRuntime(SMALL_GRAPHS, name, threads=1)
    tracker = OfflineTracker(runtime, IMAGES[0], scene.labels(0), memory_size=MEMORY_SIZE)
    wanted = list(tracker.track(IMAGES[1 : CORRECTED + 1]))
    session = start(calls, name, given=1)
    for first, last in pairwise((1, 5, 9, CORRECTED + 1)):
        assert calls.append(session, IMAGES[first:last], first=first).status_code == 200
    check_alike(calls, session, wanted, first=1)
    both = scene.labels(CORRECTED, objects=2)
    for labels in (np.where(both == 2, both, np.uint8(0)), both):
        put(calls, session, labels)
        tracker.correct(labels)
    assert calls.append(session, IMAGES[CORRECTED + 1 :], first=CORRECTED + 1).status_code == 200
    rest = list(tracker.track(IMAGES[CORRECTED + 1 :]))
    check_alike(calls, session, rest, first=CORRECTED + 1)
    seen = np.unique(np.stack([frame.labels for frame in rest]), return_counts=True)[1]
    assert len(seen) == 3
    assert min(seen) > 100


def test_the_tracker_in_one_process_follows_alike(name: str) -> None:
    runtime = GraphRuntime(SMALL_GRAPHS, name, threads=1)
    offline = OfflineTracker(runtime, IMAGES[0], scene.labels(0, objects=2))
    tracker = Tracker(IMAGES[0], scene.mask(objects=2), model=name, weights=SMALL_GRAPHS, threads=1)
    pairs = zip(offline.track(IMAGES[1:]), tracker.track(IMAGES[1:]), strict=True)
    for expected, found in pairs:
        assert np.array_equal(found.labels, expected.labels)
        assert tuple(found.confidence.values()) == expected.confidence


def test_a_corrected_reference_is_a_new_start(calls: Api, name: str) -> None:
    corrected, other = start(calls, name, given=1), start(calls, name, given=2)
    put(calls, corrected, scene.labels(0, objects=2))
    answers = [calls.append(each, IMAGES[1:9], first=1).json() for each in (corrected, other)]
    assert answers[0]["frames"] == answers[1]["frames"]


def test_a_stream_gives_what_an_append_gives(family: Running, calls: Api, name: str) -> None:
    session, streamed = (start(calls, name, given=2) for _ in range(2))
    frames = calls.append(session, IMAGES[1:9], first=1).json()["frames"]
    with talk(family.url, streamed) as stream:
        stream.send(*(message(number, IMAGES[number]) for number in range(1, 9)))
        stream.hear_masks(8)
    assert objects(stream.heard[1:]) == objects(frames)


def test_a_fork_goes_on_as_if_the_rest_had_never_been(calls: Api, name: str) -> None:
    session = start(calls, name, given=2)
    for first in range(1, 13, 2):
        calls.append(session, IMAGES[first : first + 2], first=first)
    known = {frame["frame"]: frame for frame in calls.masks(session).json()["frames"]}
    put(calls, session, scene.labels(12, objects=2))
    for first in range(13, FRAMES - 1, 2):
        answer = calls.append(session, IMAGES[first : first + 2], first=first).json()
        known |= {frame["frame"]: frame for frame in answer["frames"]}
    for at in (4, 6, 14):
        path = f"/v1/sessions/{session}/fork"
        fork = calls.http.post(path, params={"at": at}).json()
        assert fork["next_frame"] == at + 1
        assert fork["state_rebuilt_at"] is None
        again = calls.append(fork["session_id"], IMAGES[at + 1 : at + 5], first=at + 1).json()
        assert again["frames"] == [known[number] for number in range(at + 1, at + 5)]
