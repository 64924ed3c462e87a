"""Sessions of thin objects are seen larger; a client may choose, an operator may forbid."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map, write_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker
from tamvt_client import Client, ObjectPrompt, SessionOptions
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, problem, running_service
from tests.support.toy_model import write_toy_model

THIN = 6  # pixels high of 96: 4 of 64, 8 of 128


def thin_labels(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A bar in place of the scene's square; it moves as that does."""
    labels = scene.labels(number)
    labels[8 + THIN :] = 0
    return labels


def thin_picture(number: int) -> bytes:
    colors = np.array([scene.FLOOR, scene.SQUARE], np.uint8)
    return scene.encode(colors[thin_labels(number)], ".png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of a model with two finer sizes."""
    made = tmp_path_factory.mktemp("models")
    write_toy_model(made, fine_short_sides=(96, 128))
    return made


@pytest.fixture(scope="module")
def fine(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_service(state=tmp_path_factory.mktemp("state"), weights=folder) as running:
        yield running


@pytest.fixture
def api(fine: Running) -> Iterator[Api]:
    with httpx.Client(base_url=fine.url, timeout=PATIENCE_S) as http:
        yield Api(http)


def start_thin(api: Api, options: bytes = b"{}") -> httpx.Response:
    mask = write_label_map(thin_labels(0))
    return api.post_start(("frame", thin_picture(0)), ("mask", mask), ("options", options))


def test_the_width_of_the_objects_chooses_and_the_session_stays_so(api: Api) -> None:
    assert api.state(api.start())["model_size"] == [64, 96]
    session = start_thin(api).json()
    assert session["model_size"] == [128, 160]
    images = [thin_picture(number) for number in range(1, 5)]
    frames = api.append(session["session_id"], images, first=1).json()["frames"]
    for number, frame in enumerate(frames, start=1):
        mask = decode_rle(frame["objects"][0]["rle"], (scene.HEIGHT, scene.WIDTH))
        truth = thin_labels(number) == 1
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    # What is added later does not change it.
    path = f"/v1/sessions/{session['session_id']}/objects"
    answer = api.http.put(path, files={"mask": scene.mask(objects=2)})
    assert answer.status_code == 200, answer.text
    assert api.state(session["session_id"])["model_size"] == [128, 160]


def test_shapes_choose_like_pictures(fine: Running) -> None:
    bar = (8.0, 8.0, 32.0, float(THIN))
    with Client(fine.url) as client:
        drawn = client.start(thin_picture(0), objects=[ObjectPrompt(object_id=1, box=bar)])
        assert drawn.model_size == (128, 160)


def test_the_thinnest_of_several_objects_chooses(api: Api) -> None:
    labels = scene.labels(0, objects=2)
    labels[8 + THIN : 8 + scene.SIDE][labels[8 + THIN : 8 + scene.SIDE] == 1] = 0
    parts = ("frame", scene.png(0, objects=2)), ("mask", write_label_map(labels))
    assert api.post_start(*parts).json()["model_size"] == [128, 160]


def test_the_offline_loop_chooses_as_the_service_does(api: Api, folder: Path) -> None:
    runtime = GraphRuntime(folder, "toy", threads=1)
    for mask in (scene.mask(), write_label_map(thin_labels(0)), bars(8), bars(9)):
        loop = OfflineTracker(runtime, scene.png(0), read_label_map(mask, ImageLimits()))
        served = api.post_start(("frame", scene.png(0)), ("mask", mask)).json()["model_size"]
        assert list(loop.size) == served


def test_a_client_may_choose_among_what_there_is(fine: Running, api: Api) -> None:
    assert api.http.get("/v1/models").json()["models"][0]["fine_short_sides"] == [96, 128]
    with Client(fine.url) as client:
        options = SessionOptions(short_side=96)
        session = client.start(scene.png(0), mask=scene.mask(), options=options)
        assert session.model_size == (96, 128)
    assert start_thin(api, b'{"short_side": 64}').json()["model_size"] == [64, 96]
    answer = start_thin(api, b'{"short_side": 100}')
    assert problem(answer) == (422, "bad-option")
    assert answer.json()["detail"] == "options.short_side is 100; it may be 64, 96, 128"


def bars(count: int) -> bytes:
    """A mask of so many thin objects below each other."""
    labels = np.zeros((scene.HEIGHT, scene.WIDTH), np.uint8)
    for number in range(count):
        labels[4 + 8 * number : 8 + 8 * number, 8:40] = 1 + number
    return write_label_map(labels)


def test_a_larger_session_has_room_for_fewer_objects(api: Api) -> None:
    def start(count: int, options: bytes = b"{}") -> httpx.Response:
        parts = ("frame", scene.png(0)), ("mask", bars(count)), ("options", options)
        return api.post_start(*parts)

    assert [start(count).json()["model_size"][0] for count in (8, 9)] == [128, 96]
    answer = start(9, b'{"short_side": 128}')
    assert problem(answer) == (422, "too-many-objects")
    assert "at most 8 are allowed with a short side of 128" in answer.json()["detail"]
    session = start(8).json()["session_id"]
    added = api.http.put(f"/v1/sessions/{session}/objects", files={"mask": bars(9)})
    assert problem(added) == (422, "too-many-objects")
    assert len(api.state(session)["objects"]) == 8


def test_an_operator_may_bound_it(folder: Path, tmp_path: Path) -> None:
    settings = {"TAMVT_MAX_SHORT_SIDE": "100"}
    with (
        running_service(state=tmp_path, weights=folder, settings=settings) as running,
        httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        assert start_thin(api).json()["model_size"] == [96, 128]
        assert problem(start_thin(api, b'{"short_side": 128}')) == (422, "bad-option")
