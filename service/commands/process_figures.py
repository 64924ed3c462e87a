"""What a process and its children hold, as Linux tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
REGION = re.compile(r"/dev/shm/tamvt\S+")
PARENT, USER_TICKS, SYSTEM_TICKS = 1, 11, 12  # of the words after the name in /proc/PID/stat


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds, its children counted but for the memory."""

    rss_mb: float
    descriptors: int
    children: int
    regions: int  # of our shared memory that are mapped


def held(pid: int) -> Held:
    """Return what a process holds now; raise OSError if there is none."""
    files = len(list((PROC / str(pid) / "fd").iterdir()))
    maps = (PROC / str(pid) / "maps").read_text(errors="replace")
    return Held(
        rss_mb=read_resident_mb(pid),
        descriptors=files,
        children=len(list(descendants(pid))),
        regions=len(set(REGION.findall(maps))),
    )


def read_resident_mb(pid: int) -> float:
    """Return the megabytes of a process that are in memory; raise OSError if there is none."""
    pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descendants(pid: int) -> Iterator[int]:
    """Yield the processes that a process started, and theirs."""
    for child in _children().get(pid, ()):
        yield child
        yield from descendants(child)


def cpu_s(pid: int) -> float:
    """Return the seconds that a process has computed."""
    words = _stat(pid)
    return (int(words[USER_TICKS]) + int(words[SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")


def command_of(pid: int) -> str:
    """Return a process's command line; empty if it has ended."""
    with suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
    return ""


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for place in PROC.iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                found.setdefault(int(_stat(int(place.name))[PARENT]), []).append(int(place.name))
    return found


def _stat(pid: int) -> list[str]:
    """Return the words of /proc/PID/stat after the name, which may hold blanks itself."""
    return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
