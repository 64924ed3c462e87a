"""Parameters of an address, read in one way: each once, and whole numbers in digits alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from pydantic import BeforeValidator

from service.errors import BadOption

MAX_PARAMETERS: Final = 20
LEAKED: Final = re.compile(r"tamvt_[0-9a-f]{12}_|^eyJ[\w-]+\.[\w-]+\.")  # an API key, a JWT
_WHOLE: Final = re.compile("0|[1-9][0-9]{0,15}")


def read_whole(value: object) -> object:
    """Return the number in a parameter's text; raise ValueError for `01`, `+1`, `1_0` and `1.0`."""
    if not isinstance(value, str):
        return value
    if not _WHOLE.fullmatch(value):
        raise ValueError("a whole number is written in digits, as 7 or 10")
    return int(value)


# Behind an int and its bounds: a whole number in a path or a query, the same wherever one is read.
DIGITS: Final = BeforeValidator(read_whole)


def check_parameters(given: Sequence[tuple[str, str]]) -> None:
    """Raise BadOption for too many parameters, or one that is given twice: either may be meant."""
    if len(given) > MAX_PARAMETERS:
        raise BadOption(f"{len(given)} query parameters; at most {MAX_PARAMETERS} are read")
    if any(LEAKED.search(text) for pair in given for text in pair):
        raise BadOption(
            "a key or token never stands in an address, where logs keep it: revoke this one, and "
            "send the next in the header Authorization"
        )
    if len({name for name, _ in given}) < len(given):
        raise BadOption("a query parameter is given twice")
