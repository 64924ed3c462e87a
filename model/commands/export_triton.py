"""The command `tamvt-model export --triton`: an exported model as a repository for Triton."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from model.core.contract import SHIPPED_WEIGHTS, weights_version
from model.export.triton.config import Backend
from model.export.triton.repository import ENGINE_CACHE, write_repository


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class ExportTritonArguments:
    """The options of `tamvt-model export --triton`."""

    folder: Annotated[
        Path,
        Parameter(
            name="--from",
            help="where its graphs and weights are",
            show_default=lambda _: "the shipped ones",
        ),
    ] = SHIPPED_WEIGHTS
    triton: Annotated[Path, Parameter(help="the repository")]
    backend: Annotated[Backend, Parameter(help="what runs it there")] = "python"
    threads: Annotated[int, Parameter(help="of one inference on a CPU; 0: all")] = 0
    cache: Annotated[str, Parameter(help="where TensorRT's engines are kept")] = ENGINE_CACHE


def run(
    name: Annotated[str, Parameter(help="which exported model")] = "tamvt-mobile",
    /,
    *,
    args: ExportTritonArguments,
) -> int:
    """Write the repository and say what it serves."""
    spec = write_repository(
        args.folder,
        name,
        args.triton,
        backend=args.backend,
        threads=args.threads,
        cache=args.cache,
    )
    print(
        f"{args.triton}: {spec.name} for Triton's {args.backend} backend, "
        f"version {weights_version(spec)}"
    )
    return 0
