"""Multipart forms: every part is named, allowed, and counted while it streams in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.access.admission import Reservation
from service.errors import (
    BadOption,
    MalformedBody,
    Overloaded,
    PayloadTooLarge,
    PictureTooLarge,
    SlowUpload,
    TooManyFrames,
    UnsupportedMedia,
)
from service.http.bodies import body_chunks

if TYPE_CHECKING:  # the library defines it for type checkers only
    from python_multipart.multipart import MultipartCallbacks

# What may be wrong with any body that holds a picture.
BODY_ERRORS: Final = (
    MalformedBody,
    PayloadTooLarge,
    PictureTooLarge,
    UnsupportedMedia,
    SlowUpload,
    Overloaded,
)
# How OpenAPI describes a file.
BINARY: Final = {"type": "string", "format": "binary"}
# Room for the boundary, the headers and the line ends of one part.
PART_OVERHEAD: Final = 16_384


class PartRule(NamedTuple):
    """What a part may be: its bytes, and how often it may occur."""

    max_bytes: int
    max_count: int = 1


Rules = Mapping[str, PartRule]
Form = Mapping[str, list[bytes]]


def form_bytes(rules: Rules) -> int:
    """The most bytes that a form under these rules has."""
    return sum(rule.max_count * (rule.max_bytes + PART_OVERHEAD) for rule in rules.values())


def is_form(request: Request) -> bool:
    """Whether the body says that it is a multipart form."""
    kind, _ = parse_options_header(request.headers.get("content-type"))
    return kind == b"multipart/form-data"


async def receive_form(
    request: Request, rules: Rules, *, deadline_s: float, reservation: Reservation
) -> Form:
    """The request's form; UnsupportedMedia if it has none, and what `read_form` raises."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMedia(f"the body is {kind.decode('latin-1')!r}, not multipart/form-data")
    chunks = body_chunks(
        request, max_bytes=form_bytes(rules), deadline_s=deadline_s, reservation=reservation
    )
    return await read_form(chunks, boundary=options.get(b"boundary", b""), rules=rules)


async def read_form(chunks: AsyncIterator[bytes], *, boundary: bytes, rules: Rules) -> Form:
    """The contents of each part by name, in the order they came; {} for names that did not come.

    Raises:
        MalformedBody: this is no multipart form, or its end is missing.
        BadOption: a part without a name, with an unknown one, or given twice.
        PayloadTooLarge, TooManyFrames: more than the rules allow, as soon as it is known.
    """
    reader = _FormReader(rules)
    try:
        parser = MultipartParser(boundary, reader.callbacks())
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise MalformedBody(f"the multipart form is broken: {error}") from error
    if not reader.complete:
        raise MalformedBody("the multipart form ends before its last boundary")
    return reader.form


class _FormReader:
    """Collects parts as the parser finds them."""

    def __init__(self, rules: Rules) -> None:
        self.form: dict[str, list[bytes]] = {}
        self.complete = False
        self._rules = rules
        self._name = ""
        self._size = 0
        self._pieces: list[bytes] = []
        self._field = self._value = b""
        self._disposition = b""

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._name_part,
            "on_part_data": self._add_data,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._disposition = b""
        self._pieces, self._size = [], 0

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def _name_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._rules:
            allowed = ", ".join(sorted(self._rules))
            raise BadOption(f"the form has an unknown part {name!r}; it may have: {allowed}")
        self._check_count(name)
        self._name = name

    def _check_count(self, name: str) -> None:
        most = self._rules[name].max_count
        if len(self.form.get(name, ())) < most:
            return
        if most == 1:
            raise BadOption(f"the form has two parts {name!r}")
        raise TooManyFrames(f"the form may have {most} parts {name!r}", limit=most)

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        most = self._rules[self._name].max_bytes
        self._size += end - start
        if self._size > most:
            raise PayloadTooLarge(f"a part {self._name!r} may have {most} bytes", limit=most)
        self._pieces.append(data[start:end])

    def _end_part(self) -> None:
        self.form.setdefault(self._name, []).append(b"".join(self._pieces))

    def _end(self) -> None:
        self.complete = True
