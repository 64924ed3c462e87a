"""Measure how large a gateway is: its packages, its start, its memory with open sessions.

    python -m loadtests.footprint [--starts 5] [--sessions 100]

Packages are those that `tamvt-serve` needs without its extras, as they are installed here. A start
is from the command to the address that is served, its private Redis included, with the embedded
engine. The sessions are open at once, each with two tracked frames; once with the model in the same
process, once in a Triton. Memory is the gateway's resident set, without its children.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from model.core.contract import SHIPPED_WEIGHTS
from model.export.triton.repository import write_repository
from service.commands.bench_service import BenchedService, Video, scale_sample, served
from service.commands.process_figures import read_resident_mb
from service.local.triton import local_triton
from tamvt_client import Client

NAME = "tamvt-mobile"
SIZE = (256, 448)


def list_needed(name: str) -> set[str]:
    """Return the distributions that one needs here, itself included, its extras left out."""
    found = set[str]()
    waiting = [Requirement(name)]
    while waiting:
        needed = waiting.pop()
        found.add(canonicalize_name(needed.name))
        for each in map(Requirement, distribution(needed.name).requires or ()):
            environments = [{"extra": extra} for extra in needed.extras or {""}]
            is_meant = each.marker is None or any(map(each.marker.evaluate, environments))
            if is_meant and canonicalize_name(each.name) not in found:
                waiting.append(each)
    return found


def measure_packages_mb(name: str) -> float:
    """Return the MB of the files of a distribution and all that it needs, byte code left out."""
    files = {
        Path(str(each.locate()))
        for needed in list_needed(name)
        for each in distribution(needed).files or ()
    }
    there = (each for each in files if each.suffix != ".pyc" and each.is_file())
    return sum(each.stat().st_size for each in there) / 1e6


def measure_start_s() -> float:
    """Return the seconds until a service with the embedded engine tells its address."""
    begun = time.perf_counter()
    with served(threads=0):
        return time.perf_counter() - begun


def measure_memory_mb(
    service: BenchedService, video: Video, *, sessions: int
) -> tuple[float, float]:
    """Return the MB of a gateway before its sessions, and with all of them open."""
    frames, mask = video
    before = read_resident_mb(service.pid)
    with Client(service.url) as client:
        for _ in range(sessions):
            session = client.start(frames[0], mask)
            client.append(session.session_id, frames[1:3], first_frame=1)
        return before, read_resident_mb(service.pid)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how large a gateway is.")
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=100)
    args = parser.parse_args()
    lines = [f"installed packages: {measure_packages_mb('tamvt-serve'):.0f} MB"]
    starts = [measure_start_s() for _ in range(args.starts)]
    lines.append(f"start: {statistics.median(starts):.1f} s (median of {args.starts})")
    video = scale_sample(SIZE)
    most = {"TAMVT_TENANT_SESSIONS": str(args.sessions)}
    told = "gateway, {}: {:.0f} MB idle, {:.0f} MB with {} sessions"
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
