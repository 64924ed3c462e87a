"""The audit log says who did what, and nobody can flood it with denials."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from service.telemetry.audit import audit, audit_denial, shorten_session
from service.telemetry.logging import LINES_A_MINUTE, Seldom, line_formatter


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """What the audit log writes, as JSON, within this test."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.addFilter(Seldom())
    handler.setFormatter(line_formatter("json"))
    log = logging.getLogger("service.audit")
    log.addHandler(handler)
    yield text
    log.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_deletion_is_written_with_its_request(written: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(request_id="r1", tenant="acme"):
        audit("session.deleted", session=shorten_session("abcdefghijk"))
    (line,) = lines(written)
    assert line.pop("time")
    assert line == {
        "level": "info",
        "logger": "service.audit",
        "message": "session.deleted",
        "request_id": "r1",
        "session": "abcdefgh",
        "tenant": "acme",
    }


def test_denials_are_seldom_and_deletions_are_all_written(written: io.StringIO) -> None:
    for _ in range(LINES_A_MINUTE + 5):
        audit_denial("expired")
        audit("session.deleted")
    audit_denial("revoked", peer="203.0.113.7")
    *_, last = lines(written)
    assert (last["reason"], last["peer"]) == ("revoked", "203.0.113.7")
    found = [line["message"] for line in lines(written)]
    assert found.count("access.denied") == LINES_A_MINUTE + 1
    assert found.count("session.deleted") == LINES_A_MINUTE + 5
