"""The videos of a batch: each is claimed, tracked as `tamvt track` does it, and gets a receipt."""

from __future__ import annotations

import fcntl
import io
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model.core.masks import MaskError
from model.core.pixels import PixelError
from service.commands.manifest import Line, ManifestEntry
from service.commands.track import track_video
from service.commands.track_job.arguments import TrackArguments
from service.errors import DamagedVideo, TamvtError
from tamvt_client import ClientError, Unreachable

RECEIPT: Final = "receipt.json"
WORKING: Final = ".tamvt"


class Claimed(Exception):
    """Another run works on this video."""


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
        working = self.out / WORKING / line.name
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
            short_side=entry.short_side,
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
