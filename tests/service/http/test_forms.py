"""Multipart forms, however the network cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from service.errors import BadOption, MalformedBody, PayloadTooLarge, TooManyFrames
from service.http.forms import Form, PartRule, count_form_bytes, read_form

pytestmark = pytest.mark.anyio

RULES = {"frames": PartRule(max_bytes=100, max_count=3), "mask": PartRule(max_bytes=50)}


def part(name: str, content: bytes) -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="x"\r\n\r\n'
    return head.encode() + content + b"\r\n"


async def read(body: bytes, *, step: int = 1 << 20) -> Form:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), step):
            yield body[start : start + step]

    return await read_form(chunks(), boundary=b"b", rules=RULES)


@pytest.mark.parametrize("step", [1, 2, 7, 64, 1 << 20])
async def test_parts_are_read_whole_however_they_arrive(step: int) -> None:
    contents = [bytes(range(100)), b"\r\n--\r\n-", b""]
    body = b"".join(part("frames", content) for content in contents) + part("mask", b"m")
    assert await read(body + b"--b--\r\n", step=step) == {"frames": contents, "mask": [b"m"]}


async def test_a_form_may_be_empty() -> None:
    assert await read(b"--b--\r\n") == {}


async def test_a_part_is_refused_while_it_streams() -> None:
    endless = part("frames", bytes(101))[:-2]
    with pytest.raises(PayloadTooLarge) as caught:
        await read(endless, step=10)
    assert caught.value.limit == 100


async def test_parts_are_counted() -> None:
    with pytest.raises(TooManyFrames, match="3 parts") as caught:
        await read(part("frames", b"") * 4)
    assert caught.value.limit == 3


@pytest.mark.parametrize("body", [part("mask", b"") * 2, part("masks", b""), part("", b"")])
async def test_a_part_that_may_not_be_there_is_refused(body: bytes) -> None:
    with pytest.raises(BadOption):
        await read(body + b"--b--\r\n")


@pytest.mark.parametrize("body", [b"", b"nothing", part("mask", b"m"), b"--b\r\nno header"])
async def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedBody):
        await read(body)


def test_a_form_has_a_largest_size() -> None:
    assert 3 * 100 + 50 < count_form_bytes(RULES) < 100_000
