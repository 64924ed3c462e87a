"""Several models in one service: each session is tracked by the one that it chose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tamvt_client import Client, NotFound, SessionOptions
from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, Running, problem, running_service
from tests.support.toy_model import LESS_STEEP, write_toy_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graphs of two models with weights of their own."""
    made = tmp_path_factory.mktemp("models")
    write_toy_model(made)
    write_toy_model(made, name="other", weights=LESS_STEEP)
    return made


@pytest.fixture(scope="module")
def both(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service of both."""
    settings = {"TAMVT_MODELS": "toy, other", "TAMVT_MODEL": "neither"}
    state = tmp_path_factory.mktemp("state")
    with running_service(state=state, weights=folder, settings=settings) as running:
        yield running


@pytest.fixture
def api(both: Running) -> Iterator[Api]:
    with httpx.Client(base_url=both.url, timeout=PATIENCE_S) as http:
        yield Api(http)


def confidences(api: Api, session: str, *numbers: int) -> list[float]:
    """What an append of these frames says of object 1."""
    images = [scene.jpeg(number) for number in numbers]
    answer = api.append(session, images, first=numbers[0])
    assert answer.status_code == 200, answer.text
    return [frame["objects"][0]["confidence"] for frame in answer.json()["frames"]]


def test_all_are_listed_and_the_first_is_the_default(api: Api) -> None:
    listed = api.http.get("/v1/models").json()["models"]
    assert [model["name"] for model in listed] == ["toy", "other"]
    assert api.state(api.start())["model"] == "toy"
    assert api.http.get("/readyz").status_code == 200


def test_sessions_of_both_go_on_by_turns_as_they_would_alone(api: Api) -> None:
    alone = {name: api.start(model=name) for name in ("toy", "other")}
    wanted = {name: confidences(api, session, 1, 2, 3, 4) for name, session in alone.items()}
    assert wanted["toy"] != wanted["other"]
    turns = {name: api.start(model=name) for name in ("toy", "other")}
    found: dict[str, list[float]] = {name: [] for name in turns}
    for numbers in ((1, 2), (3, 4)):
        for name, session in turns.items():
            found[name] += confidences(api, session, *numbers)
    assert found == wanted
    digests = {api.state(session)["weights_sha256"] for session in turns.values()}
    assert len(digests) == 2


def test_a_model_that_is_not_served_names_those_that_are(api: Api) -> None:
    answer = api.post_start(
        ("frame", scene.png(0)), ("mask", scene.mask()), ("options", b'{"model": "stm"}')
    )
    assert problem(answer) == (404, "unknown-model")
    assert answer.json()["detail"] == "the model 'stm' is not served here; served: toy, other"


def test_the_python_client_chooses_and_hears_what_there_is(both: Running) -> None:
    with Client(both.url) as client:
        assert [model.name for model in client.models()] == ["toy", "other"]
        options = SessionOptions(model="other")
        assert client.start(scene.png(0), scene.mask(), options=options).model == "other"
        with pytest.raises(NotFound, match="served: toy, other"):
            client.start(scene.png(0), scene.mask(), options=SessionOptions(model="stm"))


def test_a_gateway_without_the_sessions_model_says_so(folder: Path, tmp_path: Path) -> None:
    """It tells what is committed, and changes nothing."""
    with (
        running_service(
            state=tmp_path, weights=folder, settings={"TAMVT_MODELS": "toy,other"}
        ) as first,
        httpx.Client(base_url=first.url, timeout=PATIENCE_S) as http,
    ):
        session = Api(http).start(model="other")
        confidences(Api(http), session, 1, 2)
    with (
        running_service(state=tmp_path, weights=folder) as second,
        httpx.Client(base_url=second.url, timeout=PATIENCE_S) as http,
    ):
        api = Api(http)
        before = api.state(session)
        assert before["model"] == "other"
        refused = [
            api.append(session, [scene.jpeg(3)], first=3),
            http.put(f"/v1/sessions/{session}/objects", files={"mask": ("mask", scene.mask())}),
        ]
        for answer in refused:
            assert problem(answer) == (404, "unknown-model")
            assert "the model 'other' is not served here; served: toy" in answer.json()["detail"]
        with talk(second.url, session, ready=False) as heard:
            assert heard.hear_close() == 4404
            assert heard.heard[-1]["problem"]["type"] == "/problems/unknown-model"
        assert api.state(session) == before
