"""The command `tamvt-model export --triton`: an exported model as a repository for Triton."""

from __future__ import annotations

import argparse
from pathlib import Path

from model.core.contract import SHIPPED_WEIGHTS, weights_version
from model.export.triton.repository import BACKENDS, ENGINE_CACHE, write_repository


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `tamvt-model export --triton`."""
    parser.add_argument("name", nargs="?", default="tamvt-mobile", help="which exported model")
    parser.add_argument(
        "--from",
        dest="folder",
        type=Path,
        default=SHIPPED_WEIGHTS,
        metavar="FOLDER",
        help="where its graphs and weights are (the shipped ones)",
    )
    parser.add_argument("--triton", type=Path, metavar="DIR", required=True, help="the repository")
    parser.add_argument(
        "--backend", choices=BACKENDS, default="python", help="what runs it there (%(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=0, help="of one inference on a CPU; 0: all (%(default)s)"
    )
    parser.add_argument(
        "--cache", default=ENGINE_CACHE, help="where TensorRT's engines are kept (%(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the repository and say what it serves."""
    spec = write_repository(
        args.folder,
        args.name,
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
