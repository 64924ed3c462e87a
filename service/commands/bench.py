"""`tamvt bench`: how fast the engine is, what the service adds, and whether anything grows.

Letters: L frames of a clip, N entries.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, Token

from service.commands.bench_results import (
    Figures,
    compare_figures,
    read_figures,
    write_figures,
)
from service.commands.failures import report_failures
from service.commands.steady_session import processor
from service.engines.embedded import embedded_engine
from service.engines.runtimes import RuntimeName, RuntimeOptions
from service.server.malloc import keep_large_blocks
from service.settings import Settings, read_settings


def _size(_type: object, tokens: Sequence[Token]) -> tuple[int, int]:
    height, _, width = tokens[0].value.partition("x")
    return int(height), int(width)


def _words(numbers: Sequence[object]) -> str:
    return " ".join(map(str, numbers))


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BenchArguments:
    """The options of `tamvt bench`."""

    size: Annotated[
        tuple[int, int],
        Parameter(
            converter=_size,
            n_tokens=1,
            help="of the frames, HxW",
            show_default=lambda size: f"{size[0]}x{size[1]}",
        ),
    ] = (256, 448)
    threads: Annotated[int, Parameter(help="of one inference; 0: all")] = 0
    objects: Annotated[
        tuple[int, ...],
        Parameter(consume_multiple=True, help="engine: how many", show_default=_words),
    ] = (1, 2, 3)
    clip_length: Annotated[
        tuple[int, ...],
        Parameter(consume_multiple=True, help="engine: frames of a clip", show_default=_words),
    ] = (2,)
    memory_size: Annotated[int | None, Parameter(help="engine: entries (default: the model's)")] = (
        None
    )
    runtime: Annotated[
        tuple[RuntimeName, ...],
        Parameter(consume_multiple=True, help="engine, soak: in turn (default: TAMVT_RUNTIME)"),
    ] = ()
    against: Annotated[
        Path | None, Parameter(help="engine: compare with the graphs of this folder, in fp32")
    ] = None
    clips: Annotated[int, Parameter(help="engine: clips measured per row")] = 100
    frames: Annotated[
        int | None,
        Parameter(
            help="engine: also compare frame 100 with this one; service: of a round (160); "
            "soak: of the long session (10000)"
        ),
    ] = None
    rounds: Annotated[int, Parameter(help="service: how many, in turns")] = 5
    workers: Annotated[
        tuple[int, ...],
        Parameter(consume_multiple=True, help="service: its processes", show_default=_words),
    ] = (1, 2)
    triton_repository: Annotated[
        Path | None, Parameter(help="service, soak: also with a Triton that serves this folder")
    ] = None
    sessions: Annotated[
        int | None, Parameter(help="service: streams at once (8); soak: short sessions (2000)")
    ] = None
    session_frames: Annotated[int, Parameter(help="soak: frames of a short session")] = 20
    frame_sizes: Annotated[int, Parameter(help="soak: how many, each 32 pixels wider")] = 13
    size_rounds: Annotated[int, Parameter(help="soak: of all frame sizes")] = 3
    json: Annotated[Path | None, Parameter(help="write the figures there")] = None
    compare: Annotated[
        Path | None, Parameter(help="say what became worse since this --json; status 1 if any")
    ] = None


BY_DEFAULT = BenchArguments()


@report_failures("bench")
def run(
    what: Annotated[
        Literal["engine", "service", "soak"],
        Parameter(
            name="WHAT",
            help="the embedded engine alone; what REST, streams, workers and a Triton leave of "
            "its speed; whether anything grows",
        ),
    ],
    /,
    *,
    args: BenchArguments = BY_DEFAULT,
) -> None:
    """Print tables in Markdown with date, processor and threads."""
    keep_large_blocks()
    settings = read_settings()
    before = read_figures(args.compare) if args.compare else {}
    threads = args.threads or len(os.sched_getaffinity(0))
    height, width = args.size
    about = {
        "what": what,
        "model": settings.served_models[0],
        "size": f"{height}x{width}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "processor": processor(),
        "threads": str(threads),
    }
    print(f"{', '.join(list(about.values())[1:-1])}, {threads} threads\n", flush=True)
    figures, failed = asyncio.run(_measure(what, args, settings, threads=threads))
    if args.json:
        write_figures(args.json, figures, about)
    if args.compare:
        table, worse = compare_figures(figures, before)
        print(f"\n{table}")
        failed += [f"{name} became worse" for name in worse]
    if failed:
        print(f"tamvt bench: {'; '.join(failed)}", file=sys.stderr)
        raise SystemExit(1)


async def _measure(
    what: str, args: BenchArguments, settings: Settings, *, threads: int
) -> tuple[Figures, list[str]]:
    """Print the tables; return the figures, and what is wrong with them."""
    if what == "engine":
        from service.commands.bench_engine import bench_engine

        found = await bench_engine(args, settings, threads=threads)
        print("\n\n".join(found.tables))
        return found.figures, []
    if what == "service":
        from service.commands.bench_service import bench_service

        options = RuntimeOptions(settings.runtime, settings.runtime_files)
        async with embedded_engine(
            settings.weights, settings.served_models[0], threads=threads, runtime=options
        ) as engine:
            table, figures = await bench_service(args, engine, threads=threads)
        print(table)
        return figures, []
    from service.commands.bench_soak import soak

    report = soak(args, settings, threads=threads)
    print("\n\n".join(report.tables))
    return report.figures, report.failed
