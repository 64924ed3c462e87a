"""The command `tamvt-model data`: how fast training clips are made, and what they hold."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from model.commands.options import (
    AT_LEAST_ONE,
    Data,
    Rendered,
    RenderedWeight,
    choose_data_folder,
)
from model.data.measure import measure, write_sheet
from model.training.recipes import RECIPES


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DataArguments:
    """The options of `tamvt-model data`."""

    output: Annotated[
        Path | None,
        Parameter(name=("-o", "--output"), help="draw a sheet of samples there, a PNG"),
    ] = None
    data: Data = None
    batches: Annotated[int, AT_LEAST_ONE, Parameter(help="how many are made")] = 30
    frames: Annotated[int | None, Parameter(help="frames of a sample, the reference included")] = (
        None
    )
    clips: Annotated[int, AT_LEAST_ONE, Parameter(help="samples on the sheet")] = 16
    rendered: Rendered = None
    rendered_weight: RenderedWeight = 0.75


BY_DEFAULT = DataArguments()


def run(
    recipe: Annotated[str, Parameter(help="whose samples, as `tamvt-model train` names it")],
    /,
    *,
    args: DataArguments = BY_DEFAULT,
) -> int:
    """Print the measurement, draw the sheet if one is asked for; return the exit status."""
    if recipe not in RECIPES:
        print(f"tamvt-model: no recipe {recipe}, but {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    samples = RECIPES[recipe](choose_data_folder(args.data)).samples
    config = samples if args.frames is None else replace(samples, frames=args.frames)
    if args.rendered is not None:
        weight = args.rendered_weight
        config = replace(config, rendered=args.rendered, rendered_weight=weight)
    print(measure(config, args.batches).text())
    if args.output is not None:
        write_sheet(args.output, config, samples=args.clips)
        print(f"wrote {args.output}")
    return 0
