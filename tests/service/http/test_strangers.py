"""Requests of other pages, in other forms, with echoes: each is refused or taken, none is a 500."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.support import scene
from tests.support.running import Api, form, problem

START = form([("frame", scene.png(0)), ("mask", scene.mask())])


def test_a_service_on_loopback_has_no_other_name(api: Api) -> None:
    for method, path in [("GET", "/"), ("GET", "/v1/models"), ("POST", "/v1/sessions")]:
        answer = api.http.request(method, path, headers={"host": "evil.example"})
        assert problem(answer) == (403, "foreign-host")
    assert api.http.get("/", headers={"host": "localhost:8000"}).status_code == 200


def test_a_page_of_another_site_starts_nothing(api: Api) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        answer = api.http.post("/v1/sessions", files=START, headers=headers)
        assert problem(answer) == (403, "foreign-origin")
    own = str(api.http.base_url).rstrip("/")
    assert api.http.post("/v1/sessions", files=START, headers={"origin": own}).status_code == 201


def test_no_parameter_is_a_number_in_another_form(api: Api) -> None:
    session = api.start()
    paths = [
        f"/v1/sessions/{session}/clips?first_frame={number}"
        for number in ("1_0", "%2B1", "01", "1.0", "-0", "%D9%A1", "1e0", "%201")
    ]
    for path in paths:
        answer = api.http.post(path, content=scene.jpeg(1))
        assert problem(answer) == (422, "bad-option"), path
    for name in ("00.png", "-0.png"):
        answer = api.http.get(f"/v1/sessions/{session}/masks/{name}")
        assert problem(answer) == (422, "bad-option")
    assert problem(api.http.delete(f"/v1/sessions/{session}/objects/01")) == (422, "bad-option")
    many = "&".join(f"a{number}=1" for number in range(500))
    assert problem(api.http.get(f"/v1/models?{many}")) == (422, "bad-option")


@pytest.mark.parametrize(
    "label", ["\0", "a\nb", "\x1b[31m", "\x85", "\u202etxt.exe", "\u2066a", "\ud800"]
)
def test_a_label_shows_as_it_is_written(api: Api, label: str) -> None:
    objects = [{"id": 1, "label": label, "box": [1, 1, 9, 9]}]
    answer = api.post_start(
        ("frame", scene.png(0)), ("objects", json.dumps(objects).encode("utf-8"))
    )
    assert problem(answer) == (422, "bad-option")


def test_labels_of_every_script_are_kept(api: Api) -> None:
    label = "\u0915\u094d\u200d\u0937 \U0001f468\u200d\U0001f469\u200d\U0001f467"
    objects = [{"id": 1, "label": label, "box": [1, 1, 9, 9]}]
    answer = api.post_start(("frame", scene.png(0)), ("objects", json.dumps(objects).encode()))
    assert answer.json()["objects"] == [{"id": 1, "label": label}]


def test_an_answer_echoes_little_of_a_request(api: Api) -> None:
    long = "x" * 10_000
    answers = [
        api.http.get(f"/v1/sessions/{long}"),
        api.http.get(f"/v1/sessions/a/masks?{long}=1"),
        api.http.post("/v1/sessions", content=b"", headers={"content-type": long}),
        api.http.post(
            "/v1/sessions/a/clips?first_frame=1", content=b"", headers={"content-type": long}
        ),
        api.post_start(("frame", scene.png(0)), (long[:500], b"")),
        api.post_start(
            ("frame", scene.png(0)),
            ("mask", scene.mask()),
            ("options", json.dumps({"model": long}).encode()),
        ),
    ]
    for answer in answers:
        assert 400 <= problem(answer)[0] < 500
        assert len(answer.content) < 1500


def test_a_compressed_body_is_refused(api: Api) -> None:
    session = api.start()
    answer = api.http.post(
        f"/v1/sessions/{session}/clips?first_frame=1",
        content=gzip.compress(scene.jpeg(1)),
        headers={"content-encoding": "gzip", "content-type": "image/jpeg"},
    )
    assert problem(answer) == (415, "unsupported-media")


@pytest.mark.parametrize("kind", ["image/jpg", "image/pjpeg", "IMAGE/JPEG"])
def test_other_names_of_a_jpeg_are_read(api: Api, kind: str) -> None:
    session = api.start()
    path = f"/v1/sessions/{session}/clips?first_frame=1"
    answer = api.http.post(path, content=scene.jpeg(1), headers={"content-type": kind})
    assert answer.status_code == 200


def test_answers_are_kept_out_of_caches_and_not_guessed_at(api: Api) -> None:
    session = api.start()
    for path in ("", "/masks", "/masks/0.png", "/masks?format=png", "/nothing"):
        answer = api.http.get(f"/v1/sessions/{session}{path}")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
    page = api.http.get("/")
    assert page.headers["cache-control"] == "no-cache"
    assert page.headers.get_list("x-content-type-options") == ["nosniff"]


def test_what_can_be_fetched_can_be_asked_for_its_head(api: Api) -> None:
    session = api.start()
    paths = ("/healthz", "/readyz", "/metrics", "/v1/models", f"/v1/sessions/{session}/masks", "/")
    for path in paths:
        head = api.http.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert int(head.headers["content-length"]) > 0
    assert api.http.head("/v1/nothing").status_code == 404


def test_a_closing_slash_changes_nothing(api: Api) -> None:
    started = api.http.post("/v1/sessions/", files=START)
    assert started.status_code == 201
    location = started.headers["location"]
    assert location == f"/v1/sessions/{started.json()['session_id']}"
    assert api.http.get(f"{location}/").json() == api.http.get(location).json()
    appended = api.http.post(f"{location}/clips/?first_frame=1", content=scene.jpeg(1))
    assert appended.json()["next_frame"] == 2
    assert api.http.get("/healthz/").status_code == 200
    assert problem(api.http.get(f"{location}%2F")) == (404, "about:blank")
