"""What a gateway and its Redis hold: at the start, for each open session, for each further frame.

    python -m loadtests.memory [--sessions 20] [--frames 32]

Runs the service with the shipped model on a Redis of its own, opens so many sessions of one object
at 448x256, and sends each of them frames. Memory is what the kernel counts as the process's own;
time plays no part, so that a busy machine does not matter.
"""

from __future__ import annotations

import argparse
from itertools import islice

import httpx

from loadtests.videos import sample_video
from service.commands.bench_service import BenchedService, served
from service.commands.bench_soak import redis_mb
from service.commands.process_figures import read_resident_mb
from tamvt_client import Client


def bank_bytes(url: str) -> float:
    """Return what the engine's banks hold, as the service tells it."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("tamvt_bank_bytes")
    )


def measure(service: BenchedService, *, sessions: int, frames: int) -> None:
    """Print what is held at the start, with open sessions, and for a frame more."""
    video = sample_video()
    images = list(islice(video.endless(0), frames))
    started, empty = read_resident_mb(service.pid), redis_mb(service)
    print(f"gateway at the start: {started:.0f} MB resident")
    with Client(service.url) as client:
        opened = [client.start(images[0], video.mask).session_id for _ in range(sessions)]
        for session in opened:
            for _ in client.track(session, images[1 : frames // 2]):
                pass
        half = redis_mb(service)
        banks = bank_bytes(service.url) / 1e6
        for session in opened:
            for _ in client.track(session, images[frames // 2 :], first_frame=frames // 2):
                pass
        end, full = read_resident_mb(service.pid), redis_mb(service)
    print(f"gateway with {sessions} sessions: {end:.0f} MB, of which banks {banks:.0f}")
    print(f"a session's bank: {banks / sessions:.2f} MB")
    print(f"Redis, a session of {frames // 2} frames: {1e3 * (half - empty) / sessions:.0f} kB")
    more = (full - half) / sessions / (frames - frames // 2)
    print(f"Redis, a frame more: {1e3 * more:.2f} kB, until old snapshots are thinned out")


def main() -> None:
    """Start a service and measure it."""
    parser = argparse.ArgumentParser(description="Measure what a gateway and its Redis hold.")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--frames", type=int, default=32)
    words = parser.parse_args()
    with served(threads=0) as service:
        measure(service, sessions=words.sessions, frames=words.frames)


if __name__ == "__main__":
    main()
