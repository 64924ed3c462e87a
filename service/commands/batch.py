"""`tamvt batch`: many videos, one after the other, each as `tamvt track` does it.

OUT/<name>/               what `tamvt track` leaves; it appears when the video is done
OUT/<name>/receipt.json   what was tracked, and how it ended
OUT/.tamvt/<name>/        a video that is under way; the next run goes on with it, or anew
OUT/.tamvt/<name>.lock    held by the run that works on it
OUT/.tamvt/service-*/     what the service of each run keeps

Several runs may share OUT, on one machine or on many: each holds the lock of its video, and one
that finds it held goes on with the next. `--shard` shares the lines out where no lock reaches.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter
from tqdm import tqdm

from model.core.masks import MaskError
from model.core.pixels import PixelError
from service.commands.failures import report_failures
from service.commands.manifest import Line, ManifestEntry, read_manifest
from service.commands.track import track_video
from service.commands.track_job.arguments import TrackArguments
from service.errors import BadOption, DamagedVideo, TamvtError
from service.local.private_service import private_service
from tamvt_client import ClientError, Unreachable

RECEIPT: Final = "receipt.json"
JOB_INDEX: Final = "JOB_COMPLETION_INDEX"  # Kubernetes gives it to the pods of an Indexed Job
SHARD: Final = re.compile(r"(index|\d{1,9})/(\d{1,9})")


class Claimed(Exception):
    """Another run works on this video."""


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


@report_failures("batch")
def run(
    manifest: Annotated[Path, Parameter(help=".csv or .jsonl: video, mask, options")],
    /,
    *,
    args: BatchArguments,
) -> None:
    """Track what is not done yet; raise BadOption at the end where a line failed."""
    part, parts = read_shard(args.shard)
    lines = [line for line in read_manifest(manifest) if line.index % parts == part]
    failed = left = 0
    with _service(args) as url:
        batch = Batch(manifest.parent, args.out, url, overlay=args.overlay)
        with tqdm(total=len(lines), unit=" videos", desc=manifest.name, disable=None) as bar:
            for line, problem in batch.track(lines):
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
def _service(args: BatchArguments) -> Iterator[str]:
    """Yield the URL of the service that is named, or of one that all videos share."""
    if args.url is not None:
        yield args.url
        return
    working = args.out / ".tamvt"
    working.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="service-", dir=working) as state,
        private_service(Path(state)) as url,
    ):
        yield url


@dataclass(frozen=True, slots=True)
class Batch:
    """Where the videos of a manifest come from, and where their results go."""

    source: Path
    out: Path
    url: str
    overlay: bool

    def track(self, lines: Sequence[Line]) -> Iterator[tuple[Line, str | None]]:
        """Yield each line when it is done, with what went wrong (empty: nothing).

        What another run works on comes last, with None where that run still has it.
        """
        later = []
        for line in lines:
            try:
                yield line, self.track_line(line)
            except Claimed:
                later.append(line)
        for line in later:
            try:
                yield line, self.track_line(line)
            except Claimed:
                yield line, None

    def track_line(self, line: Line) -> str:
        """Track one video and put its folder in place; return what went wrong.

        Raise Claimed where another run works on it, Unreachable where no service is left.
        """
        if line.entry is None:
            return line.problem
        done = self.out / line.name
        working = self.out / ".tamvt" / line.name
        with claim(working.with_name(f"{line.name}.lock")):
            if done.exists():
                return _read_receipt(done, line.entry)
            notes, began = io.StringIO(), time.perf_counter()
            problem = damage = ""
            try:
                with redirect_stdout(notes), redirect_stderr(notes):
                    track_video(
                        self.source / line.entry.video, self._arguments(line.entry, working)
                    )
            except DamagedVideo as error:
                damage = str(error)
            except Unreachable:
                raise
            except OSError as error:
                problem = f"{error.strerror or error}: {error.filename or line.entry.video}"
            except (ClientError, TamvtError, MaskError, PixelError) as error:
                problem = " ".join(str(error).split())
            if problem:
                return problem
            receipt = {
                "line": line.number,
                "entry": line.entry.model_dump(exclude_none=True),
                "digest": line.entry.digest,
                "damage": damage,
                "notes": notes.getvalue().splitlines(),
                "seconds": round(time.perf_counter() - began, 2),
            }
            _write(working / RECEIPT, receipt)
            working.rename(done)
        return damage

    def _arguments(self, entry: ManifestEntry, out: Path) -> TrackArguments:
        return TrackArguments(
            mask=self.source / entry.mask,
            out=out,
            overlay=self.overlay,
            url=self.url,
            reference_frame=entry.reference_frame,
            both_ways=entry.both_ways,
            model=entry.model,
            clip_length=entry.clip_length,
            memory_size=entry.memory_size,
            lost=entry.lost,
        )


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Hold a lock, which the process's end gives back; raise Claimed where another run holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Claimed from error
        except OSError:
            pass  # a file system that has no locks: --shard shares the lines out
        try:
            is_there = os.fstat(file.fileno()).st_ino == path.stat().st_ino
        except FileNotFoundError:
            is_there = False
        if not is_there:  # who held it has removed it, and another run may hold a new one
            raise Claimed
        yield
        path.unlink(missing_ok=True)


def _read_receipt(folder: Path, entry: ManifestEntry) -> str:
    """Return what was wrong with a video that is done, or with its receipt."""
    try:
        receipt = json.loads((folder / RECEIPT).read_text(encoding="utf-8"))
        if receipt["digest"] == entry.digest:
            return str(receipt["damage"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return f"{folder} holds results of something else; move it away"


def _write(path: Path, value: dict[str, Any]) -> None:
    """Write JSON that is whole or not there."""
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
