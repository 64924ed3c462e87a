"""One table from error class to status, complete."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from service import errors
from service.problems import (
    KINDS,
    MEMBERS,
    describe_problem,
    document_errors,
    find_kind,
    headers_of,
    write_refusal,
)
from tamvt_client.messages import Problem


def tree(root: type[errors.TamvtError]) -> Iterator[type[errors.TamvtError]]:
    """The class and every class below it."""
    yield root
    for below in root.__subclasses__():
        yield from tree(below)


# Errors of the Python client are made of answers; they never become one.
EVERY_ERROR = [cls for cls in tree(errors.TamvtError) if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_every_error_has_a_status(cls: type[errors.TamvtError]) -> None:
    assert cls in KINDS


def test_every_problem_has_a_name_of_its_own() -> None:
    slugs = [kind.slug for kind in KINDS.values()]
    assert len(set(slugs)) == len(slugs)


def test_the_error_tree_is_drawn_in_full() -> None:
    drawn = errors.__doc__ or ""
    assert [cls.__name__ for cls in EVERY_ERROR if cls.__name__ not in drawn] == []


@pytest.mark.parametrize("cls", EVERY_ERROR)
def test_who_is_at_fault_shows_in_the_status(cls: type[errors.TamvtError]) -> None:
    status = KINDS[cls].status
    if issubclass(cls, errors.Refused):
        assert 400 <= status < 500
    elif issubclass(cls, errors.Unavailable):
        assert status == 503
    else:
        assert status == 500


def test_a_class_that_is_not_listed_is_like_its_parent() -> None:
    class Stranger(errors.BadImage):
        """Not in the table."""

    assert find_kind(Stranger("?")) == KINDS[errors.BadImage]


def test_the_members_of_problems_are_defined_once() -> None:
    assert set(MEMBERS) <= set(Problem.model_fields)


def test_a_problem_carries_what_a_client_can_act_on() -> None:
    assert describe_problem(errors.FrameAhead("frame 7 comes next", expected=7)) == {
        "type": "/problems/frame-ahead",
        "title": "Frames are left out",
        "status": 409,
        "detail": "frame 7 comes next",
        "expected": 7,
    }


@pytest.mark.parametrize(
    "error",
    [
        errors.Overloaded("full", retry_after_s=1.2),
        errors.TooMany("too many", limit=1),
        errors.Unauthenticated("a key is needed"),
        errors.HeadTooLarge("long", limit=1),
    ],
)
def test_a_refusal_of_a_connection_has_the_headers_of_its_problem(
    error: errors.TamvtError,
) -> None:
    head, body = write_refusal(error).split(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    assert status.startswith(f"HTTP/1.1 {find_kind(error).status} ")
    assert json.loads(body) == describe_problem(error)
    headers = dict(line.split(": ") for line in lines)
    assert headers.pop("Content-Length") == str(len(body))
    assert headers.pop("Connection") == "close"
    assert headers.pop("Content-Type") == "application/problem+json"
    assert headers == headers_of(error)


def test_a_route_documents_its_problems_by_status() -> None:
    answers = document_errors(errors.UnknownSession, errors.UnknownFrame)
    assert list(answers) == [401, 403, 404, 422, 503]
    assert answers[404]["description"] == "`unknown-frame`; `unknown-session`"
