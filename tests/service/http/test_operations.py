"""What those who run the service look at."""

from __future__ import annotations

import json
import re
from http import HTTPMethod
from http.client import HTTPConnection
from pathlib import Path

import httpx
import psutil
import pytest
from pydantic import BaseModel

from tamvt_client import messages
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, problem, running_service


def sample(api: Api, name: str) -> float:
    """The value of one line of the metrics."""
    text = api.http.get("/metrics").text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_health_and_readiness(api: Api) -> None:
    assert api.http.get("/healthz").json() == {"status": "ok"}
    assert api.http.get("/readyz").json() == {"status": "ready"}


def test_without_redis_the_service_is_alive_but_not_ready(tmp_path: Path, toy_folder: Path) -> None:
    quick = {"TAMVT_REDIS_DEADLINE_S": "1"}
    with running_service(state=tmp_path, weights=toy_folder, settings=quick) as running:
        (redis,) = psutil.Process(running.process.pid).children()
        redis.suspend()  # one that ended would be started again
        assert httpx.get(f"{running.url}/healthz", timeout=PATIENCE_S).status_code == 200
        answer = httpx.get(f"{running.url}/readyz", timeout=PATIENCE_S)
        redis.resume()
        assert problem(answer) == (503, "store-unavailable")
        assert answer.headers["retry-after"] == "1"


def test_the_models_that_are_served(api: Api) -> None:
    (model,) = api.http.get("/v1/models").json()["models"]
    assert set(model) == set(messages.ModelOut.model_fields)
    assert (model["name"], model["short_side"], model["clip_length"]) == ("toy", 64, 2)
    tokens = 2 * 3  # of 32x32 pixels at 64x96
    assert (model["entry_bytes"], model["state_bytes"]) == (2 * (3 + 4) * tokens, 0)


def test_frames_clips_and_sessions_are_counted(api: Api) -> None:
    names = ["tamvt_frames_total", "tamvt_clips_total", "tamvt_sessions_total"]
    names += ["tamvt_frames_replayed_total", 'tamvt_problems_total{problem="frame-ahead"}']
    before = [sample(api, name) for name in names]
    session = api.start()
    images = [scene.jpeg(number) for number in (1, 2, 3)]
    api.append(session, images, first=1)
    api.append(session, images, first=1)
    api.append(session, images, first=9)
    counted = [sample(api, name) - was for name, was in zip(names, before, strict=True)]
    assert counted == [3, 2, 1, 3, 1]


def test_requests_are_counted_by_route(api: Api) -> None:
    shown = 'tamvt_requests_total{method="GET",route="/v1/sessions/{session_id}",status="200"}'
    missing = 'tamvt_requests_total{method="GET",route="other",status="404"}'
    before = sample(api, shown), sample(api, missing)
    api.http.get(f"/v1/sessions/{api.start()}")
    api.http.get("/not/here")
    assert (sample(api, shown), sample(api, missing)) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize("path", ["/metrics/", "/%6detrics", "/metric%73", "//metrics"])
def test_no_other_spelling_passes_a_proxy_that_keeps_the_metrics_inside(
    api: Api, path: str
) -> None:
    host, port = api.http.base_url.host, api.http.base_url.port
    connection = HTTPConnection(host, port, timeout=PATIENCE_S)
    connection.request("GET", path)
    answer = connection.getresponse()
    assert (answer.status, b"tamvt_" in answer.read()) == (404, False)
    connection.close()


def test_openapi_describes_every_route(api: Api) -> None:
    schema = api.http.get("/openapi.json").json()
    assert {f"{m.upper()} {path}" for path, calls in schema["paths"].items() for m in calls} == {
        "POST /v1/sessions",
        "GET /v1/sessions",
        "GET /v1/sessions/{session_id}",
        "DELETE /v1/sessions/{session_id}",
        "POST /v1/sessions/{session_id}/clips",
        "PUT /v1/sessions/{session_id}/objects",
        "DELETE /v1/sessions/{session_id}/objects/{object_id}",
        "POST /v1/sessions/{session_id}/fork",
        "POST /v1/sessions/{session_id}/tickets",
        "POST /v1/masks/convert",
        "POST /v1/masks/refine",
        "GET /v1/sessions/{session_id}/masks",
        "GET /v1/sessions/{session_id}/masks/{frame}.png",
        "GET /v1/models",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    }


def test_bounds_are_told_in_the_words_of_json_schema(api: Api) -> None:
    rest, stream = api.http.get("/openapi.json"), api.http.get("/asyncapi.json")
    assert re.findall(r'"(?:ge|gt|le|lt)":', rest.text + stream.text) == []
    query = stream.json()["channels"]["stream"]["bindings"]["ws"]["query"]["properties"]
    bounds = {"minimum": 0, "maximum": 4294967295}
    assert query["from"]["anyOf"] == [{"type": "integer", **bounds}, {"type": "null"}]


def test_openapi_refers_to_nothing_that_is_not_in_it(api: Api) -> None:
    text = api.http.get("/openapi.json").text
    schemas_there = json.loads(text)["components"]["schemas"]
    used = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert "Problem" in used
    assert used <= set(schemas_there)
    assert "HTTPValidationError" not in used


@pytest.mark.parametrize(
    ("path", "method", "statuses"),
    [
        ("/v1/sessions", "post", {"400", "408", "413", "415", "422", "503"}),
        ("/v1/sessions/{session_id}/clips", "post", {"404", "408", "409", "413", "422", "503"}),
        ("/v1/sessions/{session_id}/masks", "get", {"404", "422", "503"}),
    ],
)
def test_openapi_documents_the_problems(
    api: Api, path: str, method: str, statuses: set[str]
) -> None:
    answers = api.http.get("/openapi.json").json()["paths"][path][method]["responses"]
    assert statuses <= set(answers)
    for status in statuses:
        assert set(answers[status]["content"]) == {"application/problem+json"}


def test_answers_are_as_their_schemas_say(api: Api) -> None:
    started = api.post_start(("frame", scene.png(0)), ("mask", scene.mask()))
    session = started.json()["session_id"]
    rle = api.append(session, [scene.jpeg(1)], first=1)
    polygons = api.append(session, [scene.jpeg(1)], first=1, format="polygons")
    refused = api.append(session, [scene.jpeg(3)], first=3)
    problem = messages.Problem.model_validate_json(refused.content, extra="forbid")
    assert problem.expected == 2
    schemas_there = api.http.get("/openapi.json").json()["components"]["schemas"]
    assert set(schemas_there["Problem"]["required"]) <= set(refused.json())
    assert set(refused.json()) <= set(schemas_there["Problem"]["properties"])
    corrected = api.http.put(
        f"/v1/sessions/{session}/objects", files={"mask": ("mask.png", scene.mask())}
    )
    answers: list[tuple[type[BaseModel], httpx.Response]] = [
        (messages.SessionOut, started),
        (messages.AppendedOut, rle),
        (messages.AppendedOut, polygons),
        (messages.MasksOut, api.masks(session)),
        (messages.CorrectedOut, corrected),
    ]
    for model, answer in answers:
        read = model.model_validate_json(answer.content, extra="forbid")
        assert set(answer.json()) == set(type(read).model_fields)


def test_methods_that_nobody_knows_share_one_label(api: Api) -> None:
    for method in ("GET", "BREW", "X" * 5000):
        api.http.request(method, "/healthz")
    labels = re.findall(r'tamvt_requests_total\{method="(\w+)"', api.http.get("/metrics").text)
    assert {"GET", "other"} <= set(labels) <= {*HTTPMethod, "other"}
