"""How the page's files are served: right types, revalidated, nothing from elsewhere."""

from __future__ import annotations

import re

import httpx
import pytest

from service.http.page import CLIENT, FOLDER, MEDIA_TYPES
from tests.support.running import Api, problem

FILES = {
    path.relative_to(FOLDER).as_posix(): path
    for path in sorted(FOLDER.rglob("*"))
    if path.suffix in MEDIA_TYPES
} | {"tamvt.js": CLIENT}


def test_the_page_is_at_the_root(api: Api) -> None:
    answer = api.http.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.text == (FOLDER / "index.html").read_text()


def test_every_kind_of_file_has_its_type() -> None:
    kinds = {path.suffix for path in FOLDER.rglob("*") if path.is_file()}
    assert kinds <= set(MEDIA_TYPES)


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_served_with_its_type(api: Api, name: str) -> None:
    answer = api.http.get(f"/web/{name}")
    assert answer.content == FILES[name].read_bytes()
    assert answer.headers["content-type"] == MEDIA_TYPES[FILES[name].suffix]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


def test_a_file_that_is_unchanged_is_not_sent_again(api: Api) -> None:
    first = api.http.get("/web/tamvt.js")
    assert first.headers["cache-control"] == "no-cache"
    again = api.http.get("/web/tamvt.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_head_has_the_length_and_no_body(api: Api) -> None:
    answer = api.http.head("/web/sample.webm")
    assert answer.content == b""
    assert int(answer.headers["content-length"]) == (FOLDER / "sample.webm").stat().st_size


@pytest.mark.parametrize(
    ("header", "first", "last"), [("bytes=0-99", 0, 99), ("bytes=500-", 500, None)]
)
def test_a_video_is_sent_in_parts(api: Api, header: str, first: int, last: int | None) -> None:
    whole = (FOLDER / "sample.webm").read_bytes()
    answer = api.http.get("/web/sample.webm", headers={"Range": header})
    end = len(whole) - 1 if last is None else last
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{end}/{len(whole)}"
    assert answer.content == whole[first : end + 1]


@pytest.mark.parametrize(
    "header",
    ["bytes=-5", "bytes=9-2", "lines=1-2", "bytes=99999999-", "x", f"bytes={'9' * 5000}-"],
    ids=["no first byte", "backward", "another unit", "beyond the end", "no range", "too long"],
)
def test_a_range_that_is_none_gets_the_whole_file(api: Api, header: str) -> None:
    answer = api.http.get("/web/icon.svg", headers={"Range": header})
    assert answer.status_code == 200
    assert answer.content == (FOLDER / "icon.svg").read_bytes()


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fapp.py", "%2e%2e/app.py", "index.html/"])
def test_nothing_else_is_served(api: Api, name: str) -> None:
    assert problem(api.http.get(f"/web/{name}"))[0] == 404


def test_the_page_and_the_modules_name_no_other_host(api: Api) -> None:
    text = "".join(
        path.read_text() for path in FILES.values() if path.suffix in (".html", ".css", ".js")
    )
    hosts = set(re.findall(r"(?:https?:)?//([\w-]+(?:\.[\w-]+)*)/", text))
    assert hosts <= {"host"}  # in the example of the client


def test_no_script_or_style_stands_inside_the_page(api: Api) -> None:
    text = api.http.get("/").text
    assert re.findall(r"<style|<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:", text) == []


def test_the_problems_of_the_api_stay_problems(api: Api) -> None:
    answer: httpx.Response = api.http.get("/nothing")
    assert problem(answer)[0] == 404
