"""JSON is read strictly: what could be meant in two ways is refused."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from service.errors import BadOption, MalformedBody
from service.http.schemas import OPTIONS
from service.http.strict_json import read_json

NUMBERS = TypeAdapter(list[float])


def test_what_is_well_formed_is_read() -> None:
    assert read_json(b"[1, 2.5, -3e2]", NUMBERS, where="it") == [1, 2.5, -300]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1,",
        b"[NaN]",
        b"[Infinity]",
        b"[-Infinity]",
        b"[1e400]",
        b"[1] [2]",
        b"\xff",
        b"[" * 100_000,
        b"[" + b"9" * 5000 + b"]",
        b'{"a": 1, "a": 1}',
        b'[{"a": {"b": 1, "b": 2}}]',
    ],
)
def test_what_is_broken_or_ambiguous_is_malformed(text: bytes) -> None:
    with pytest.raises(MalformedBody, match=r"^it is no JSON that is read here"):
        read_json(text, NUMBERS, where="it")


def test_a_wrong_field_is_named() -> None:
    with pytest.raises(BadOption, match=r"^options: clip_lenght: Extra inputs"):
        read_json(b'{"clip_lenght": 2}', OPTIONS, where="options")


@pytest.mark.parametrize("text", [b'["1"]', b"[true]", b"[null]", b"{}", b"1"])
def test_types_are_not_guessed(text: bytes) -> None:
    with pytest.raises(BadOption, match=r"^it: "):
        read_json(text, NUMBERS, where="it")
