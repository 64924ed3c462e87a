"""JSON from a client, read strictly: without NaN, keys given twice, or unknown fields."""

from __future__ import annotations

import json
import math
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.errors import BadOption, MalformedBody

SHOWN_ERRORS: Final = 5

T = TypeVar("T")


def read_json(text: bytes, kind: TypeAdapter[T], *, where: str) -> T:
    """Return the JSON in `text` as the type of `kind`; `where` names it in errors.

    Raises:
        MalformedBody: the text is no JSON or not UTF-8, or has a key twice, NaN or infinity.
        BadOption: a field is unknown or missing, or has an impossible value.
    """
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
        found = error.errors(include_url=False)[:SHOWN_ERRORS]
        reasons = "; ".join(
            f"{'.'.join(str(step) for step in item['loc']) or 'value'}: {item['msg']}"
            for item in found
        )
        raise BadOption(f"{where}: {reasons}") from error


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _read_number(text: str) -> float:
    """Return a finite number; raise ValueError for NaN, Infinity or a number beyond a float."""
    if text in ("NaN", "Infinity", "-Infinity"):
        raise ValueError(f"{text} is no number")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number
