"""Measure how large a gateway is: its packages, its start, its memory with open sessions.

    python -m loadtests.footprint [--starts 5] [--sessions 100]

Packages are those of requirements/gateway.txt, as they are installed here, extras left out. A start
is from the command to the address that is served, its private Redis included, with the embedded
engine. The sessions are open at once, each with two tracked frames, and a Triton of its own process
has the model; with the embedded engine it is the same process. Memory is the gateway's resident
set, without its children.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import psutil

from model.core.contract import SHIPPED_WEIGHTS
from model.export.triton.repository import write_repository
from service.commands.bench_service import BenchedService, Video, scale_sample, served
from service.local.triton import local_triton
from tamvt_client import Client

NAME = "tamvt-mobile"
LOCK = Path(__file__).resolve().parents[1] / "requirements" / "gateway.txt"
SIZE = (256, 448)


def measure_packages_mb(lock: Path) -> float:
    """Return the MB of the files of all packages that the lock names and that are installed."""
    names = re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(encoding="utf-8"), re.MULTILINE)
    files = set[Path]()
    for name in names:
        with suppress(PackageNotFoundError):  # of another platform
            files |= {Path(str(each.locate())) for each in distribution(name).files or ()}
    there = (each for each in files if each.suffix != ".pyc" and each.is_file())
    return sum(each.stat().st_size for each in there) / 1e6


def measure_start_s() -> float:
    """Return the seconds until a service with the embedded engine tells its address."""
    begun = time.perf_counter()
    with served(threads=0):
        return time.perf_counter() - begun


def measure_memory_mb(service: BenchedService, video: Video, *, sessions: int) -> tuple[int, int]:
    """Return the MB of a gateway before its sessions, and with all of them open."""
    frames, mask = video
    process = psutil.Process(service.pid)
    before = process.memory_info().rss
    with Client(service.url) as client:
        for _ in range(sessions):
            session = client.start(frames[0], mask)
            client.append(session.session_id, frames[1:3], first_frame=1)
        return before // 1_000_000, process.memory_info().rss // 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how large a gateway is.")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=100)
    args = parser.parse_args()
    lines = [f"installed packages: {measure_packages_mb(LOCK):.0f} MB"]
    starts = [measure_start_s() for _ in range(args.starts)]
    lines.append(f"start: {statistics.median(starts):.1f} s (median of {args.starts})")
    video = scale_sample(SIZE)
    most = {"TAMVT_TENANT_SESSIONS": str(args.sessions)}
    told = "gateway, {}: {} MB idle, {} MB with {} sessions"
    with served(threads=0, settings=most) as service:
        found = measure_memory_mb(service, video, sessions=args.sessions)
        lines.append(told.format("embedded engine", *found, args.sessions))
    with tempfile.TemporaryDirectory() as folder:
        write_repository(SHIPPED_WEIGHTS, NAME, Path(folder), threads=0)
        with local_triton(Path(folder)) as triton:
            own = {**most, "TAMVT_ENGINE": "triton", "TAMVT_TRITON_URL": triton.url}
            with served(threads=0, settings=own) as service:
                found = measure_memory_mb(service, video, sessions=args.sessions)
                lines.append(told.format("with a Triton", *found, args.sessions))
    sys.stdout.write("\n".join((*lines, "")))


if __name__ == "__main__":
    main()
