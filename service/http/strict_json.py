"""JSON from a client, read strictly: without NaN, keys given twice, or unknown fields.

Its cost is linear in its length, and the first wrong item of a list ends its validation.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.errors import BadOption, MalformedBody, echo
from service.server.workers import Workers

SHOWN_ERRORS: Final = 5
MAX_KEYS: Final = 256  # of one object: there are fewer ids
# Of a whole text, counted before anything is built of it: far more than any list of objects needs.
MAX_ALL_KEYS: Final = 10_000
MAX_BRACKETS: Final = 20_000
KEY: Final = re.compile(rb'"\s*:')
BRIEF: Final = 65_536  # bytes that are parsed at once, on the event loop

T = TypeVar("T")


async def read_large_json(text: bytes, kind: TypeAdapter[T], workers: Workers, *, where: str) -> T:
    """Return what `read_json` does, on a worker where the text is long."""
    if len(text) <= BRIEF:
        return read_json(text, kind, where=where)
    return await workers.start(read_json, text, kind, where=where)


def read_json(text: bytes, kind: TypeAdapter[T], *, where: str) -> T:
    """Return the JSON in `text` as the type of `kind`; `where` names it in errors.

    Raises:
        MalformedBody: the text is no JSON or not UTF-8, or has a key twice, NaN or infinity.
        BadOption: a field is unknown or missing, or has an impossible value.
    """
    brackets = text.count(b"[") + text.count(b"{")
    keys = sum(1 for _ in KEY.finditer(text))
    if brackets > MAX_BRACKETS or keys > MAX_ALL_KEYS:
        raise MalformedBody(
            f"{where} is no JSON that is read here: it has {brackets} lists and objects and "
            f"{keys} keys; at most {MAX_BRACKETS} and {MAX_ALL_KEYS} are read"
        )
    try:
        raw = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_read_object,
            parse_constant=_read_number,
            parse_float=_read_number,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"{where} is no JSON that is read here: {error}") from error
    try:
        return kind.validate_python(raw, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = "; ".join(
            f"{'.'.join(echo(step) for step in item['loc']) or 'value'}: {item['msg']}"
            for item in found[:SHOWN_ERRORS]
        )
        raise BadOption(f"{where}: {reasons}") from error


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise ValueError(f"an object of {len(pairs)} keys; at most {MAX_KEYS} are read")
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {echo(name)!r} is given twice")
        found[name] = value
    return found


def _read_number(text: str) -> float:
    """Return a finite number; raise ValueError for NaN, Infinity or a number beyond a float."""
    if text in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"{text} is no number")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{echo(text)} is too large")
    return number
