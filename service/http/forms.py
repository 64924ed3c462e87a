"""Multipart forms: every part is known by name, and counted while it streams in.

The parser is python-multipart's. starlette's form is not used: it reads files of any size before a
route can refuse them. Here a part is refused by its name, and its bytes are counted as they come
(decision 16).
"""

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
    echo,
)
from service.http.bodies import read_chunks
from service.http.dependencies import UploadLimits

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
# The settings that limit the bytes of a part.
RAISED_BY: Final = {
    "video": "TAMVT_MAX_VIDEO_BYTES",
    **dict.fromkeys(("frame", "frames", "image"), "TAMVT_MAX_FRAME_BYTES"),
}
PART_OVERHEAD: Final = 16_384


class PartRule(NamedTuple):
    """How large a part may be, and how often it may occur."""

    max_bytes: int
    max_count: int = 1


Rules = Mapping[str, PartRule]
Form = Mapping[str, list[bytes]]


def count_form_bytes(rules: Rules) -> int:
    """Return the most bytes of a form that keeps these rules."""
    return sum(rule.max_count * (rule.max_bytes + PART_OVERHEAD) for rule in rules.values())


def is_form(request: Request) -> bool:
    """Return whether the content type says that the body is a multipart form."""
    kind, _ = parse_options_header(request.headers.get("content-type"))
    return kind == b"multipart/form-data"


async def receive_form(
    request: Request, rules: Rules, *, limits: UploadLimits, reservation: Reservation
) -> Form:
    """Return the request's form; raise UnsupportedMedia, and as `read_form` does."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise UnsupportedMedia(
            f"the body is {echo(kind.decode('latin-1'))!r}, not multipart/form-data"
        )
    chunks = read_chunks(
        request, max_bytes=count_form_bytes(rules), limits=limits, reservation=reservation
    )
    return await read_form(chunks, boundary=options.get(b"boundary", b""), rules=rules)


async def read_form(chunks: AsyncIterator[bytes], *, boundary: bytes, rules: Rules) -> Form:
    """Return the parts that came: their contents by name, in the order of the form.

    Raises:
        MalformedBody: the body is no multipart form, or its end is missing.
        BadOption: a part has no name or an unknown one, or is given twice.
        PayloadTooLarge, TooManyFrames: a part is larger or more frequent than its rule allows.
    """
    reader = _FormReader(rules)
    try:
        parser = MultipartParser(boundary, reader.callbacks)
        async for chunk in chunks:
            parser.write(chunk)
    except FormParserError as error:
        raise MalformedBody(f"the multipart form is broken: {error}") from error
    if not reader.complete:
        raise MalformedBody("the multipart form ends before its last boundary")
    return reader.form


class _FormReader:
    """Collects parts as the parser finds them. `callbacks` are in the order of a form's bytes."""

    def __init__(self, rules: Rules) -> None:
        self.form: dict[str, list[bytes]] = {}
        self.complete = False
        self._rules = rules
        self._name = ""
        self._size = 0
        self._pieces: list[bytes] = []
        self._field = self._value = b""
        self._disposition = b""

    @property
    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self.begin_part,
            "on_header_field": self.add_field,
            "on_header_value": self.add_value,
            "on_header_end": self.end_header,
            "on_headers_finished": self.end_headers,
            "on_part_data": self.add_data,
            "on_part_end": self.end_part,
            "on_end": self.end,
        }

    def begin_part(self) -> None:
        self._disposition = b""
        self._pieces, self._size = [], 0

    def add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self._disposition = self._value
        self._field = self._value = b""

    def end_headers(self) -> None:
        """Name the part; raise BadOption or TooManyFrames unless one more of this name may come."""
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name not in self._rules:
            allowed = ", ".join(sorted(self._rules))
            raise BadOption(f"the form has an unknown part {echo(name)!r}; it may have: {allowed}")
        most = self._rules[name].max_count
        if len(self.form.get(name, ())) >= most:
            if most == 1:
                raise BadOption(f"the form has two parts {name!r}")
            raise TooManyFrames(
                f"the form may have {most} parts {name!r}: send the rest in another request",
                limit=most,
            )
        self._name = name

    def add_data(self, data: bytes, start: int, end: int) -> None:
        most = self._rules[self._name].max_bytes
        self._size += end - start
        if self._size > most:
            setting = RAISED_BY.get(self._name)
            way_out = f": compress it more, or raise {setting}" if setting else ""
            raise PayloadTooLarge(
                f"a part {self._name!r} may have {most} bytes{way_out}", limit=most
            )
        self._pieces.append(data[start:end])

    def end_part(self) -> None:
        self.form.setdefault(self._name, []).append(b"".join(self._pieces))

    def end(self) -> None:
        self.complete = True
