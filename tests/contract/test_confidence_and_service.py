"""Lost objects are the same offline and served, whatever happens to the bank meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.confidence import Calibration
from model.core.encoding import decode_rle
from model.core.masks import overlay_masks
from model.core.palette import write_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker
from tests.faults.gateways import gateways
from tests.service.stream.talk import frame as message
from tests.service.stream.talk import objects, talk, text
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, form, running_service
from tests.support.toy_model import write_toy_model

FRAMES = 24
MEMORY_SIZE = 4
CALIBRATION = Calibration(
    bias=0.0, sureness=1.0, wholeness=0.0, size=0.0, threshold=0.9, memory_gate=True
)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the toy model, calibrated."""
    folder = tmp_path_factory.mktemp("calibrated")
    write_toy_model(folder, calibration=CALIBRATION)
    return folder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, calibrated: Path) -> Iterator[Running]:
    state = tmp_path_factory.mktemp("calibrated-state")
    with running_service(state=state, weights=calibrated) as running:
        yield running


def faded(number: int) -> tuple[int, ...]:
    """Object 1 alone, both, and object 2 alone, for some frames each."""
    return {1: (1,), 2: (1, 2), 3: (2,)}.get(number // 4 % 5, ())


IMAGES = [
    scene.encode(scene.picture(number, objects=2, faded=faded(number)), ".jpg")
    for number in range(FRAMES)
]


def tracked(api: Api, *, append: int = 6, **options: Any) -> tuple[str, list[Any]]:
    """A session on the fading objects, and the masks of its frames after the first."""
    session = api.start(objects=2, memory_size=MEMORY_SIZE, **options)
    for first in range(1, FRAMES, append):
        answer = api.append(session, IMAGES[first : first + append], first=first)
        assert answer.status_code == 200, answer.text
    return session, list(api.masks(session, from_=1).json()["frames"])


def labels_of(frame: Any) -> Any:
    size = (scene.HEIGHT, scene.WIDTH)
    return overlay_masks(((item["id"], decode_rle(item["rle"])) for item in frame["objects"]), size)


@pytest.fixture(scope="module")
def calls(service: Running) -> Iterator[Api]:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
        yield Api(http)


@pytest.mark.parametrize("gate", [True, False])
def test_both_loops_judge_alike(calls: Api, calibrated: Path, gate: bool) -> None:
    runtime = GraphRuntime(calibrated, "toy", threads=1)
    first = scene.labels(0, objects=2)
    tracker = OfflineTracker(
        runtime, scene.png(0, objects=2), first, memory_size=MEMORY_SIZE, memory_gate=gate
    )
    ours = list(tracker.track(IMAGES[1:]))
    _, theirs = tracked(calls, memory_gate=gate)
    assert len(ours) == len(theirs) == FRAMES - 1
    for mine, frame in zip(ours, theirs, strict=True):
        assert np.array_equal(mine.labels, labels_of(frame))
        assert mine.confidence == tuple(item["confidence"] for item in frame["objects"])
        assert mine.lost == tuple(item["state"] == "lost" for item in frame["objects"])


@pytest.mark.parametrize("gate", [True, False])
def test_a_stream_judges_as_an_append_does(service: Running, calls: Api, gate: bool) -> None:
    _, frames = tracked(calls, memory_gate=gate)
    session = calls.start(objects=2, memory_size=MEMORY_SIZE, memory_gate=gate)
    with talk(service.url, session) as stream:
        for first in range(1, FRAMES, 8):  # as many as there are credits
            numbers = range(first, min(first + 8, FRAMES))
            stream.send(*(message(number, IMAGES[number]) for number in numbers))
            if numbers[-1] == FRAMES - 1:
                stream.send(text("end"))
            stream.hear_masks(len(numbers))
    assert any(item["state"] == "lost" for frame in frames for item in frame["objects"])
    assert objects(stream.heard[1:]) == objects(frames)
    assert calls.masks(session, from_=1).json()["frames"] == frames


def test_faded_objects_are_lost_and_keep_their_masks(calls: Api) -> None:
    _, frames = tracked(calls)
    for frame in frames:
        lost = tuple(item["id"] for item in frame["objects"] if item["state"] == "lost")
        assert lost == faded(frame["frame"])
        assert all(item["area"] > 0 for item in frame["objects"])


def test_the_gate_is_the_models_default_and_the_sessions_choice(calls: Api) -> None:
    (model,) = calls.http.get("/v1/models").json()["models"]
    chosen = [calls.start(), calls.start(memory_gate=False)]
    gates = [calls.http.get(f"/v1/sessions/{name}").json()["memory_gate"] for name in chosen]
    assert (model["memory_gate"], model["lost_below"]) == (True, 0.9)
    assert gates == [True, False]


def test_the_gate_changes_what_is_seen(calls: Api) -> None:
    """What is remembered of a faded object makes the model surer of it: so the tests can tell."""
    surest = [
        max(
            item["confidence"]
            for frame in frames
            for item in frame["objects"]
            if item["id"] in faded(frame["frame"])
        )
        for _, frames in (tracked(calls, memory_gate=gate) for gate in (True, False))
    ]
    assert surest[0] < surest[1]


def test_a_fork_of_the_past_is_judged_alike(calls: Api) -> None:
    session, frames = tracked(calls)
    answer = calls.http.post(f"/v1/sessions/{session}/fork", params={"at": 12})
    forked = answer.json()["session_id"]
    assert calls.append(forked, IMAGES[13:], first=13).status_code == 200
    assert calls.masks(forked, from_=1).json()["frames"] == frames


def test_a_correction_does_not_make_the_memory_know_what_is_lost(calls: Api) -> None:
    """Object 2 alone is faded in frame 14: correcting object 1 is no word on object 2."""
    corrected, other = (calls.start(objects=2, memory_size=9) for _ in range(2))
    labels = np.where(scene.labels(14, objects=2) == 1, np.uint8(1), np.uint8(0))
    for session in (corrected, other):
        assert calls.append(session, IMAGES[1:15], first=1).status_code == 200
    path = f"/v1/sessions/{corrected}/objects"
    mask = form([("mask", write_label_map(labels))])
    assert calls.http.put(path, files=mask).status_code == 200
    answers = [
        calls.append(session, IMAGES[15:19], first=15).json()["frames"]
        for session in (corrected, other)
    ]
    # The correction takes entries of object 1 out of memory, which moves the confidence a little.
    seconds = [
        [(frame["objects"][1]["rle"], frame["objects"][1]["state"]) for frame in frames]
        for frames in answers
    ]
    assert seconds[0] == seconds[1]


def test_masks_are_the_same_when_every_append_rebuilds_the_bank(
    calls: Api, calibrated: Path, tmp_path: Path
) -> None:
    _, expected = tracked(calls, append=2)
    with (
        gateways(1, calibrated, model="toy", state=tmp_path, bank_bytes=1) as (rebuilt,),
        httpx.Client(base_url=rebuilt.url, timeout=PATIENCE_S) as http,
    ):
        assert tracked(Api(http), append=2)[1] == expected


def test_masks_are_the_same_after_a_gateway_was_killed(
    calls: Api, calibrated: Path, tmp_path: Path
) -> None:
    _, expected = tracked(calls, append=2)
    with gateways(1, calibrated, model="toy", state=tmp_path) as (gateway,):
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as http:
            session = Api(http).start(objects=2, memory_size=MEMORY_SIZE)
            assert Api(http).append(session, IMAGES[1:11], first=1).status_code == 200
        gateway.kill()
        gateway.start()
        with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as http:
            assert Api(http).append(session, IMAGES[9:], first=9).status_code == 200
            assert Api(http).masks(session, from_=1).json()["frames"] == expected
