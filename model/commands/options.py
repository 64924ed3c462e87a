"""Options that several commands of `tamvt-model` share, and how their words are read."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token, validators


def split_words(_type: object, tokens: Sequence[Token]) -> tuple[str, ...]:
    """Return `full,center` as a tuple."""
    return tuple(word for word in tokens[0].value.split(",") if word)


def split_numbers(_type: object, tokens: Sequence[Token]) -> tuple[int, ...]:
    """Return `1,2` as a tuple; raise ValueError for what is no number."""
    return tuple(int(word) for word in split_words(_type, tokens))


def parse_size(text: str) -> tuple[int, int]:
    """Return (480, 864) for `480x864`; raise ValueError for what is no size."""
    height, width = map(int, text.split("x"))
    return height, width


def allow_only(names: Iterable[str]) -> Callable[[object, str | tuple[str, ...] | None], None]:
    """Return a validator that raises ValueError for a name that is not one of these."""

    def check(_type: object, named: str | tuple[str, ...] | None) -> None:
        for name in (named,) if isinstance(named, str) else named or ():
            if name not in known:
                raise ValueError(f"there are {', '.join(known)}, but no {name}")

    known = sorted(names)
    return check


def choose_data_folder(named: Path | None) -> Path:
    """Return the folder of data: the one that was named, else TAMVT_DATA, else `data`."""
    return named or Path(os.environ.get("TAMVT_DATA", "data"))


COMMAS = Parameter(n_tokens=1, show_default=lambda values: ",".join(map(str, values)))
SEVERAL = Parameter(consume_multiple=True)
SPACED = Parameter(show_default=lambda values: " ".join(map(str, values)))
AT_LEAST_ONE = Parameter(validator=validators.Number(gte=1))

Model = Annotated[str, Parameter(help="name of the graphs")]
Words = Annotated[tuple[str, ...], COMMAS, Parameter(converter=split_words)]
Numbers = Annotated[tuple[int, ...], COMMAS, Parameter(converter=split_numbers)]
Positive = Annotated[int, AT_LEAST_ONE]
Graphs = Annotated[
    Path, Parameter(help="folder of the graphs", show_default=lambda _: "the shipped ones")
]
Data = Annotated[Path | None, Parameter(help="data (default: TAMVT_DATA, else data)")]
Rendered = Annotated[
    Path | None, Parameter(help="mix in the clips that `data render` wrote into this folder")
]
RenderedWeight = Annotated[
    float,
    Parameter(
        validator=validators.Number(gt=0),
        help="how often those are drawn, where the videos of data/video have 1",
    ),
]
Output = Annotated[Path, Parameter(name=("-o", "--output"), help="folder to write into")]
Size = Annotated[
    tuple[int, int],
    Parameter(
        n_tokens=1,
        converter=lambda _type, tokens: parse_size(tokens[0].value),
        show_default=lambda size: f"{size[0]}x{size[1]}",
    ),
]
