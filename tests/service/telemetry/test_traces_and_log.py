"""One line a request and spans from the client's trace on: what a real service left behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.service.stream.talk import talk
from tests.support import scene
from tests.support.otlp import Collector, attributes_of, running_collector
from tests.support.running import PATIENCE_S, Api, running_service

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "call-7"}


@dataclass
class Left:
    """What a service wrote and sent until it had ended."""

    session: str
    other: str  # one that was deleted
    collector: Collector
    log: str

    def lines(self, message: str) -> list[dict[str, Any]]:
        """Return the lines of the log with this message."""
        lines = [json.loads(line) for line in self.log.splitlines()]
        return [line for line in lines if line["message"] == message]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Left]:
    state = tmp_path_factory.mktemp("state")
    path = state / "log.jsonl"
    with running_collector() as collector, path.open("w") as log:
        settings = {"TAMVT_OTLP_ENDPOINT": collector.url, "TAMVT_LOG_FORMAT": "json"}
        service = running_service(state=state, weights=toy_folder, settings=settings, stderr=log)
        with service as running, httpx.Client(base_url=running.url, timeout=PATIENCE_S) as http:
            api = Api(http)
            session, other = api.start(), api.start()
            http.headers.update(CALLER)
            answer = api.append(session, [scene.jpeg(n) for n in range(1, 5)], first=1)
            assert answer.headers["x-request-id"] == "call-7"
            http.delete(f"/v1/sessions/{other}")
            http.headers["x-request-id"] = "no\tid"
            assert http.get("/nothing/here?key=hidden").headers["x-request-id"].isalnum()
            http.get("/readyz")
            with talk(running.url, session) as stream:
                stream.send_frames(range(5, 9))
                stream.hear_masks(4)
                stream.send('{"type": "end"}')
                assert stream.hear_close() == 1000
        yield Left(session, other, collector, path.read_text(encoding="utf-8"))


def test_a_request_is_one_line_of_what_it_was(left: Left) -> None:
    start, _, append, delete, unknown = left.lines("request")
    assert start["session"] == left.session[:8]
    told = {name: append[name] for name in ("method", "route", "status", "tenant", "trace")}
    assert told == {
        "method": "POST",
        "route": "/v1/sessions/{session_id}/clips",
        "status": 200,
        "tenant": "default",
        "trace": TRACE,
    }
    assert append["request_id"] == delete["request_id"] == "call-7"
    assert append["received"] > 4 * len(scene.jpeg(1)) > 1000
    assert append["sent"] > 100
    assert append["ms"] > 0
    assert (unknown["route"], unknown["status"]) == ("other", 404)


def test_a_deletion_is_in_the_audit_log(left: Left) -> None:
    (line,) = left.lines("session.deleted")
    told = (line["logger"], line["session"], line["tenant"], line["request_id"])
    assert told == ("service.audit", left.other[:8], "default", "call-7")


def test_a_stream_is_one_line_at_its_end(left: Left) -> None:
    (line,) = left.lines("stream")
    assert (line["code"], line["session"], line["tenant"]) == (1000, left.session[:8], "default")


def test_the_log_and_the_traces_hold_no_session_ids_images_or_queries(left: Left) -> None:
    for text in (left.log.encode(), *left.collector.bodies):
        for secret in (left.session.encode(), left.other.encode(), b"hidden", b"JFIF"):
            assert secret not in text


def test_a_request_goes_on_with_the_callers_trace_down_to_redis(left: Left) -> None:
    (append,) = left.collector.named("POST /v1/sessions/{session_id}/clips")
    assert (append.trace_id.hex(), append.parent_span_id.hex()) == (TRACE, SPAN)
    mine = [span for span in left.collector.spans if span.trace_id == append.trace_id]
    clips = [span for span in mine if span.name == "clip"]
    assert [attributes_of(span)["tamvt.first_frame"] for span in clips] == [1, 3]
    assert {span.parent_span_id for span in clips} == {append.span_id}
    assert attributes_of(clips[0])["tamvt.inference_ms"] > 0
    parents = {(span.name, span.parent_span_id) for span in mine}
    assert ("redis load", append.span_id) in parents
    assert ("redis commit", clips[1].span_id) in parents


def test_a_streams_clips_are_traces_with_a_link_to_the_stream(left: Left) -> None:
    (stream,) = left.collector.named("stream")
    linked = [span for span in left.collector.named("clip") if span.links]
    assert [attributes_of(span)["tamvt.first_frame"] for span in linked] == [5, 7]
    assert {span.links[0].span_id for span in linked} == {stream.span_id}
    assert len({span.trace_id for span in (*linked, stream)}) == 3
