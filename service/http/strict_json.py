"""JSON from a client, read strictly: no NaN, no key twice, no field that is not known."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from service.errors import BadOption, MalformedBody

T = TypeVar("T")


def read_json(text: bytes, kind: TypeAdapter[T], *, where: str) -> T:
    """The JSON in `text` as the type of `kind`; `where` names it in errors.

    Raises:
        MalformedBody: no JSON, not UTF-8, a key given twice, NaN, or an infinite number.
        BadOption: JSON, but with an unknown field, a missing one, or an impossible value.
    """
    try:
        raw = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        raise MalformedBody(f"{where} is no JSON that is read here: {error}") from error
    try:
        return kind.validate_python(raw, strict=True)
    except ValidationError as error:
        raise BadOption(f"{where}: {_reasons(error)}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} is given twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is too large")
    return number


def _reasons(error: ValidationError) -> str:
    found = error.errors(include_url=False)[:5]
    return "; ".join(
        f"{'.'.join(str(step) for step in item['loc']) or 'value'}: {item['msg']}" for item in found
    )
