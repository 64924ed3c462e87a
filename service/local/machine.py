"""What this machine offers, as `tamvt doctor` looks at it: measured, or handed in by a test."""

from __future__ import annotations

import platform
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from service.server.malloc import keep_large_blocks

CPUINFO = Path("/proc/cpuinfo")
SHARED_MEMORY = Path("/dev/shm")


def processor_features() -> frozenset[str]:
    """Return the names of what the processor can do; none where the kernel does not tell."""
    try:
        lines = CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    found = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(found, "").split())


def count_free_bytes(path: Path) -> int:
    """Return how many bytes are free where `path` is, or would be made."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts of a machine."""

    architecture: str = field(default_factory=platform.machine)
    features: frozenset[str] = field(default_factory=processor_features)
    keeps_blocks: Callable[[], bool] = keep_large_blocks
    open_files: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    shared_memory: Path = SHARED_MEMORY
    free_bytes: Callable[[Path], int] = count_free_bytes
    now: Callable[[], float] = time.time
