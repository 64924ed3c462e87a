"""`tamvt batch`: many videos, one after the other, each as `tamvt track` does it.

OUT/<name>/               what `tamvt track` leaves; it appears when the video is done
OUT/<name>/receipt.json   what was tracked, and how it ended
OUT/.tamvt/<name>/        a video that is under way; the next run goes on with it, or anew
OUT/.tamvt/<name>.lock    held by the run that works on it
OUT/.tamvt/service-*/     what the services of each run keep

Several runs may share OUT, on one machine or on many: each holds the lock of its video, and one
that finds it held goes on with the next. `--shard` shares the lines out where no lock reaches.
With `--ray` one run hands its lines to actors, each with a service of its own (decision 91).
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from cyclopts.validators import Number
from tqdm import tqdm

from service.commands.batch_videos import WORKING, Batch
from service.commands.failures import report_failures
from service.commands.manifest import Line, read_manifest
from service.commands.ray_actors import check_ray, running_actors
from service.errors import BadOption
from service.local.private_service import private_service

JOB_INDEX: Final = "JOB_COMPLETION_INDEX"  # Kubernetes gives it to the pods of an Indexed Job
SHARD: Final = re.compile(r"(index|\d{1,9})/(\d{1,9})")
Track = Callable[[Sequence[Line]], Iterator[tuple[Line, str | None]]]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class BatchArguments:
    """The options of `tamvt batch`."""

    out: Annotated[Path, Parameter(name=("-o", "--out"), help="folder for the results")]
    url: Annotated[str | None, Parameter(help="a running service; without it one is started")] = (
        None
    )
    shard: Annotated[
        str,
        Parameter(help=f"part i of n, from 0 on, as i/n; index/n takes i from {JOB_INDEX}"),
    ] = "0/1"
    overlay: Annotated[bool, Parameter(help="also write overlay.mp4 of each")] = False
    ray: Annotated[
        str | None,
        Parameter(help="track in actors of Ray: local starts one, auto or HOST:PORT is yours"),
    ] = None
    actors: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1), help="with --ray: at most so many (what its processors carry)"
        ),
    ] = None
    actor_cpus: Annotated[
        int, Parameter(validator=Number(gte=1), help="with --ray: processors of each actor")
    ] = 2


@report_failures("batch")
def run(
    manifest: Annotated[Path, Parameter(help=".csv or .jsonl: video, mask, options")],
    /,
    *,
    args: BatchArguments,
) -> None:
    """Track what is not done yet; raise BadOption at the end where a line failed."""
    part, parts = read_shard(args.shard)
    if args.ray is not None and args.url is not None:
        raise BadOption("--ray starts a service in each actor: leave out --url")
    if args.ray is not None:
        check_ray(args.ray)
    lines = [line for line in read_manifest(manifest) if line.index % parts == part]
    failed = left = 0
    with (
        _tracking(manifest, args) as track,
        tqdm(total=len(lines), unit=" videos", desc=manifest.name, disable=None) as bar,
    ):
        for line, problem in track(lines):
            left += problem is None
            if problem:
                failed += 1
                bar.write(f"line {line.number}: {line.name}: {problem}", file=sys.stderr)
            bar.update()
    print(f"{len(lines) - failed - left} of {len(lines)} videos are tracked, in {args.out}")
    if left:
        print(f"{left} are left to other runs, which hold them now")
    if failed:
        raise BadOption(f"{failed} of {len(lines)} lines failed; mend them and run it again")


def read_shard(text: str) -> tuple[int, int]:
    """Return (i, n) of `i/n`, i below n; raise BadOption for anything else."""
    found = SHARD.fullmatch(text)
    part = found and (os.environ.get(JOB_INDEX, "") if found[1] == "index" else found[1])
    if part == "":
        raise BadOption(f"--shard {text}: {JOB_INDEX} is not set")
    if not found or not str(part).isdecimal() or int(str(part)) >= int(found[2]):
        raise BadOption(f"--shard {text}: it is i/n, i from 0 to n - 1")
    return int(str(part)), int(found[2])


@contextmanager
def _tracking(manifest: Path, args: BatchArguments) -> Iterator[Track]:
    """Yield what tracks lines: with the service that is named, one that all share, or actors."""
    batch = Batch(manifest.parent, args.out, args.url or "", overlay=args.overlay)
    if args.url is not None:
        yield batch.track
        return
    working = args.out / WORKING
    working.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix="service-", dir=working, ignore_cleanup_errors=True
    ) as state:
        if args.ray is None:
            with private_service(Path(state)) as url:
                yield replace(batch, url=url).track
        else:
            with running_actors(
                args.ray, batch, Path(state), cpus=args.actor_cpus, most=args.actors
            ) as pool:
                yield pool.track
