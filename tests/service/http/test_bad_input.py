"""Bad input: each kind has a problem of its own, and nothing of a refused request is kept."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import scene
from tests.support.bad_images import bomb, plain
from tests.support.running import Api, problem, unchanged


@pytest.fixture
def session(api: Api) -> str:
    """A session with two frames tracked."""
    session = api.start()
    assert api.append(session, [scene.jpeg(1), scene.jpeg(2)], first=1).status_code == 200
    return session


# Frames of an append

BAD_FRAMES = {
    "not an image": (b"not an image at all", 422, "bad-image"),
    "empty": (b"", 422, "bad-image"),
    "a GIF": (b"GIF89a" + bytes(100), 422, "bad-image"),
    "a truncated JPEG": (scene.jpeg(3)[:-200], 422, "truncated-image"),
    "a truncated PNG": (scene.png(3)[:-20], 422, "truncated-image"),
    "a bomb": (bomb(width=60_000, height=60_000), 413, "picture-too-large"),
    "too wide": (plain(8, 4100), 413, "picture-too-large"),
    "too many bytes": (scene.jpeg(3) + bytes(8_000_000), 413, "too-large"),
    "another size": (plain(scene.HEIGHT, scene.WIDTH + 1), 422, "wrong-frame-size"),
    "lying on its side": (plain(scene.WIDTH, scene.HEIGHT), 422, "wrong-frame-size"),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused(api: Api, session: str, name: str) -> None:
    data, status, slug = BAD_FRAMES[name]
    with unchanged(api, session):
        # The good frames around it are not kept either.
        answer = api.append(session, [scene.jpeg(3), data, scene.jpeg(5)], first=3)
    assert problem(answer) == (status, slug)


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_as_the_whole_body_is_refused(api: Api, session: str, name: str) -> None:
    data, status, slug = BAD_FRAMES[name]
    with unchanged(api, session):
        answer = api.http.post(f"/v1/sessions/{session}/clips?first_frame=3", content=data)
    assert problem(answer) == ((status, slug) if data else (422, "no-frames"))


def test_a_problem_says_which_frame_is_meant(api: Api, session: str) -> None:
    answer = api.append(session, [scene.jpeg(3), b"nothing"], first=3)
    assert answer.json()["detail"].startswith("frame 2 of the request")


def test_an_append_without_frames_is_refused(api: Api, session: str) -> None:
    empty_form = {"content-type": "multipart/form-data; boundary=b"}
    with unchanged(api, session):
        answer = api.http.post(
            f"/v1/sessions/{session}/clips?first_frame=3", content=b"--b--\r\n", headers=empty_form
        )
    assert problem(answer) == (422, "no-frames")


def test_more_frames_than_an_append_takes_are_refused(api: Api, session: str) -> None:
    with unchanged(api, session):
        answer = api.append(session, [scene.jpeg(3)] * 65, first=3)
    assert problem(answer) == (413, "too-many-frames")
    assert answer.json()["limit"] == 64


def test_a_first_frame_ahead_is_refused(api: Api, session: str) -> None:
    with unchanged(api, session):
        answer = api.append(session, [scene.jpeg(4)], first=4)
    assert problem(answer) == (409, "frame-ahead")
    assert answer.json()["expected"] == 3


def test_a_committed_frame_with_other_content_is_refused(api: Api, session: str) -> None:
    with unchanged(api, session):
        answer = api.append(session, [scene.jpeg(1), scene.jpeg(9), scene.jpeg(3)], first=1)
    assert problem(answer) == (409, "frame-changed")
    assert answer.json()["expected"] == 3


# Sessions


@pytest.mark.parametrize("name", ["never-was", "a" * 300, "%7Bx%7D", "..%00", "é"])
def test_an_unknown_session_is_one_404(api: Api, name: str) -> None:
    path = f"/v1/sessions/{name}"
    answers = [
        api.http.get(path),
        api.http.delete(path),
        api.http.get(f"{path}/masks"),
        api.http.get(f"{path}/masks/0.png"),
        api.http.post(f"{path}/clips?first_frame=1", content=scene.jpeg(1)),
    ]
    assert {problem(answer) for answer in answers} == {(404, "unknown-session")}


# Queries and paths


@pytest.mark.parametrize(
    "query",
    [
        "",
        "first_frame=",
        "first_frame=-1",
        "first_frame=1.5",
        "first_frame=one",
        "first_frame=99999999999999999999",
        "first_frame=3&first_frame=4",
        "first_frame=3&format=png",
        "first_frame=3&clip_length=2",
        "first_frame=3&skip=-1",
        "first_frame=3&count=0",
    ],
)
def test_a_bad_query_of_an_append_is_refused(api: Api, session: str, query: str) -> None:
    with unchanged(api, session):
        answer = api.http.post(f"/v1/sessions/{session}/clips?{query}", content=scene.jpeg(3))
    assert problem(answer) == (422, "bad-option")


@pytest.mark.parametrize(
    ("query", "status", "slug"),
    [
        ("from=-1", 422, "bad-option"),
        ("from=a", 422, "bad-option"),
        ("format=jpeg", 422, "bad-option"),
        ("form=png", 422, "bad-option"),
        ("from=3", 404, "unknown-frame"),
        ("from=2&to=1", 404, "unknown-frame"),
    ],
)
def test_a_bad_query_of_masks_is_refused(
    api: Api, session: str, query: str, status: int, slug: str
) -> None:
    answer = api.http.get(f"/v1/sessions/{session}/masks?{query}")
    assert problem(answer) == (status, slug)


@pytest.mark.parametrize(("frame", "status"), [("3", 404), ("-1", 422), ("one", 422)])
def test_a_mask_that_is_not_there_is_refused(
    api: Api, session: str, frame: str, status: int
) -> None:
    assert problem(api.http.get(f"/v1/sessions/{session}/masks/{frame}.png"))[0] == status


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/web", 404),
        ("POST", "/", 405),
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/sessions//", 404),
        ("GET", "/redoc", 404),
        ("PUT", "/v1/sessions", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_paths_and_methods_that_are_not_there_are_problems_too(
    api: Api, method: str, path: str, status: int
) -> None:
    answer = api.http.request(method, path)
    assert problem(answer) == (status, "about:blank")


# Bodies

BAD_FORMS: dict[str, tuple[str, bytes, int, str]] = {
    "JSON": ("application/json", b"{}", 415, "unsupported-media"),
    "an HTML form": ("application/x-www-form-urlencoded", b"a=b", 415, "unsupported-media"),
    "no boundary": ("multipart/form-data", b"--x--", 400, "malformed-body"),
    "another boundary": ("multipart/form-data; boundary=x", b"--y\r\n\r\n", 400, "malformed-body"),
    "empty": ("multipart/form-data; boundary=x", b"", 400, "malformed-body"),
    "no end": (
        "multipart/form-data; boundary=x",
        b'--x\r\nContent-Disposition: form-data; name="frames"\r\n\r\nabc',
        400,
        "malformed-body",
    ),
    "a part without a name": (
        "multipart/form-data; boundary=x",
        b"--x\r\nContent-Type: image/png\r\n\r\nabc\r\n--x--\r\n",
        422,
        "bad-option",
    ),
    "endless headers": (
        "multipart/form-data; boundary=x",
        b"--x\r\n" + b"A: b\r\n" * 1000,
        400,
        "malformed-body",
    ),
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_a_bad_form_is_refused(api: Api, session: str, name: str) -> None:
    kind, body, status, slug = BAD_FORMS[name]
    with unchanged(api, session):
        answer = api.http.post(
            f"/v1/sessions/{session}/clips?first_frame=3",
            content=body,
            headers={"content-type": kind},
        )
    assert problem(answer) == (status, slug)


def test_an_announced_length_beyond_the_limit_is_refused_unread(api: Api, session: str) -> None:
    url = urlsplit(str(api.http.base_url))
    head = (
        f"POST /v1/sessions/{session}/clips?first_frame=3 HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: image/png\r\nContent-Length: 9000000000\r\nExpect: 100-continue\r\n\r\n"
    )
    with unchanged(api, session), socket.create_connection((url.hostname, url.port), 10) as wire:
        wire.sendall(head.encode())
        answer = wire.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_chunked_body_is_counted_as_it_comes(api: Api, session: str) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(100_000)

    with unchanged(api, session):
        answer = api.http.post(f"/v1/sessions/{session}/clips?first_frame=3", content=endless())
    assert problem(answer) == (413, "too-large")


def test_a_client_that_leaves_in_the_middle_changes_nothing(api: Api, session: str) -> None:
    url = urlsplit(str(api.http.base_url))
    head = (
        f"POST /v1/sessions/{session}/clips?first_frame=3 HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: image/jpeg\r\nContent-Length: 5000\r\n\r\n"
    )
    with unchanged(api, session):
        with socket.create_connection((url.hostname, url.port), 10) as wire:
            wire.sendall(head.encode() + scene.jpeg(3)[:100])
        assert api.http.get("/healthz").status_code == 200
    assert api.append(session, [scene.jpeg(3)], first=3).status_code == 200


def test_every_problem_says_what_it_is(api: Api, session: str) -> None:
    answer: dict[str, Any] = api.append(session, [scene.jpeg(9)], first=9).json()
    assert answer == {
        "type": "/problems/frame-ahead",
        "title": "Frames are left out",
        "status": 409,
        "detail": "frame 9 was sent, but frame 3 comes next",
        "expected": 3,
    }


def test_the_service_lives_on_after_all_this(api: Api) -> None:
    ready: httpx.Response = api.http.get("/readyz")
    assert ready.json() == {"status": "ready"}


def test_more_frames_than_one_append_takes_are_to_be_sent_in_another(api: Api) -> None:
    answer = api.append(api.start(), [scene.jpeg(1)] * 65, first=1)
    assert problem(answer) == (413, "too-many-frames")
    assert "send the rest in another" in answer.json()["detail"]
