"""JSON is read strictly: what could be meant in two ways is refused."""

from __future__ import annotations

import time

import pytest
from pydantic import TypeAdapter

from service.errors import BadOption, MalformedBody
from service.http.schemas import OBJECTS, OPTIONS
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"[" + b"0," * 500_000 + b"0]", "0: Input should"),
        (b"[" + b'{"id":1,"box":[1,1,1,1]},' * 4_000 + b"{}]", "at most 254 items"),
        (b'[{"id":1,"polygons":[[' + b'"",' * 400_000 + b'""]]}]', "polygons.0.0: Input should"),
        (b'[{"id":1,"polygons":[' + b"0," * 500_000 + b"0]}]", "polygons.0: Input should"),
        (b'[{"id":1,"box":[' + b'"",' * 400_000 + b'""]}]', "box.0: Input should"),
        (b'[{"id":1,"rle":{"size":[1,1],"counts":[' + b'"",' * 400_000 + b'""]}}]', "counts.list"),
    ],
)
def test_the_first_wrong_item_of_a_list_ends_its_validation(text: bytes, reason: str) -> None:
    begin = time.process_time()
    with pytest.raises(BadOption, match=reason) as caught:
        read_json(text, OBJECTS, where="objects")
    assert time.process_time() - begin < 1
    assert len(str(caught.value)) < 1000


def test_a_key_given_twice_is_found_in_one_pass() -> None:
    names = ",".join(f'"{number}":0' for number in range(9_000))
    begin = time.process_time()
    with pytest.raises(MalformedBody, match="at most 256 are read"):
        read_json(f'[{{{names},"8999":0}}]'.encode(), OBJECTS, where="objects")
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    "text", [b"[" + b"[]," * 600_000 + b"0]", b"[" + b'{"":0},' * 11_000 + b"0]"]
)
def test_lists_and_keys_are_counted_before_they_are_built(text: bytes) -> None:
    begin = time.process_time()
    with pytest.raises(MalformedBody, match="at most 20000 and 10000 are read"):
        read_json(text, OBJECTS, where="objects")
    assert time.process_time() - begin < 0.2


def test_what_is_echoed_is_cut() -> None:
    for text in (f'{{"{"k" * 5000}":1}}', f'{{"{"k" * 5000}":1,"{"k" * 5000}":1}}'):
        with pytest.raises((BadOption, MalformedBody)) as caught:
            read_json(text.encode(), OPTIONS, where="options")
        assert len(str(caught.value)) < 300


def test_half_a_character_can_be_answered() -> None:
    with pytest.raises(BadOption) as caught:
        read_json(b'{"\\ud800": 1}', OPTIONS, where="options")
    str(caught.value).encode()
