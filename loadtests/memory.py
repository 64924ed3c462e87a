"""What a gateway and its Redis hold: at the start, for each open session, for each further frame.

    python -m loadtests.memory [--sessions 20] [--frames 32]

Runs the service with the shipped model on a Redis of its own, opens so many sessions of one object
at 448x256, and sends each of them frames. Memory is what the kernel counts as the process's own;
time plays no part, so that a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import httpx
import numpy as np
import psutil
from redis import Redis

from model.core.palette import write_label_map
from scripts.deploy.stack import StackGateway, find_free_port, running_redis
from service.media.images import encode_jpeg
from service.media.sample import draw_sample
from tamvt_client import Client

SIZE = (448, 256)  # width, height
MB = 1e6


def sample(count: int) -> tuple[bytes, list[bytes]]:
    """Return the reference mask as a PNG, and so many frames as JPEG."""
    drawn = list(islice(draw_sample(), count))
    small = [cv2.resize(rgb, SIZE, interpolation=cv2.INTER_AREA) for rgb, _ in drawn]
    frames = [encode_jpeg(np.asarray(rgb, np.uint8)) for rgb in small]
    labels = cv2.resize(drawn[0][1], SIZE, interpolation=cv2.INTER_NEAREST)
    return write_label_map(labels.astype("uint8")), frames


def bank_bytes(url: str) -> float:
    """Return what the engine's banks hold, as the service tells it."""
    text = httpx.get(f"{url}/metrics", timeout=60).text
    return sum(
        float(line.split()[-1]) for line in text.splitlines() if line.startswith("tamvt_bank_bytes")
    )


def measure(gateway: StackGateway, redis: Redis, *, sessions: int, frames: int) -> None:
    """Print what is held at the start, with open sessions, and for a frame more."""
    assert gateway.process is not None
    process = psutil.Process(gateway.process.pid)

    def own_bytes() -> int:
        return int(process.memory_info().rss)

    def stored() -> int:
        return int(redis.info("memory")["used_memory"])

    mask, images = sample(frames)
    started, empty = own_bytes(), stored()
    print(f"gateway at the start: {started / MB:.0f} MB resident")
    with Client(gateway.url) as client:
        opened = [client.start(images[0], mask).session_id for _ in range(sessions)]
        for session in opened:
            for _ in client.track(session, images[1 : frames // 2]):
                pass
        half = stored()
        banks = bank_bytes(gateway.url)
        for session in opened:
            for _ in client.track(session, images[frames // 2 :], first_frame=frames // 2):
                pass
        end, full = own_bytes(), stored()
    print(f"gateway with {sessions} sessions: {end / MB:.0f} MB, of which banks {banks / MB:.0f}")
    print(f"a session's bank: {banks / sessions / MB:.2f} MB")
    print(f"Redis, a session of {frames // 2} frames: {(half - empty) / sessions / 1e3:.0f} kB")
    more = (full - half) / sessions / (frames - frames // 2)
    print(f"Redis, a frame more: {more / 1e3:.2f} kB, until old snapshots are thinned out")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what a gateway and its Redis hold.")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--frames", type=int, default=32)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_redis(Path(folder)) as url:
        gateway = StackGateway(
            find_free_port(), Path(folder) / "gateway.log", {**os.environ, "TAMVT_REDIS_URL": url}
        )
        gateway.start()
        try:
            with Redis.from_url(url) as redis:
                measure(gateway, redis, sessions=words.sessions, frames=words.frames)
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
