"""What costly requests do to everybody else: to `/healthz`, to another session, and to memory.

    python -m loadtests.guards [--only start] [--seconds 5]

A service with a private Redis runs in a process of its own. Another process asks for `/healthz`
without pause and appends to a session of its own, while one costly request after the other is sent,
each again and again for some seconds. The table tells the slowest `/healthz`, and what an append of
that session took against the quiet time before. At the end 32 starts with the largest frames come
at once, and the gateway's peak of resident memory is told. The inputs are made here.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import httpx
import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from loadtests.gateways import gateway
from loadtests.videos import sample_video

SIDE, STARTS, WATCHED_S = 4096, 32, 0.05
TIMEOUT_S = 90.0


@dataclass(frozen=True, slots=True)
class Costly:
    """A request that costs the service more than its sender."""

    name: str
    send: Callable[[httpx.Client], httpx.Response]


def picture_bytes(pixels: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    """Return pixels (H, W) or (H, W, 3) as an image file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def start(
    http: httpx.Client, frame: bytes, mask: bytes | None = None, objects: str | None = None
) -> httpx.Response:
    """Start a session with a mask image or with JSON `objects`."""
    files = {"frame": ("0.jpg", frame)}
    if mask is not None:
        files["mask"] = ("0.png", mask)
    data = {} if objects is None else {"objects": objects}
    return http.post("/v1/sessions", files=files, data=data)


def list_requests(http: httpx.Client) -> Iterator[Costly]:
    """Yield the costly requests, those that an attack on the service was found with."""
    frame = picture_bytes(np.full((SIDE, SIDE), 99, np.uint8), "JPEG")
    small = picture_bytes(np.full((96, 128), 99, np.uint8), "JPEG")
    keys = json.dumps([{"id": 1, **{f"k{number}": 0 for number in range(30_000)}}])
    wrong = "[" + ",".join(["0"] * 1_000_000) + "]"
    zigzag = [value for x in range(8_000) for value in (x % SIDE, (x % 2) * (SIDE - 1))]
    polygons = json.dumps([{"id": 1, "polygons": [zigzag]}])
    boxes = json.dumps([{"id": number, "box": [0, 0, SIDE, SIDE]} for number in range(1, 17)])
    rows = (np.arange(SIDE) // 16 % 255).astype(np.uint8)
    ids = picture_bytes(np.ascontiguousarray(np.broadcast_to(rows[:, None], (SIDE, SIDE))))
    dotted_labels = np.zeros((2048, 2048), np.uint8)
    dotted_labels[::2, ::2] = 1
    dots = picture_bytes(dotted_labels)
    middle = picture_bytes(np.full((2048, 2048), 99, np.uint8), "JPEG")
    yield Costly("start: 30,000 keys in an object", lambda c: start(c, small, objects=keys))
    yield Costly("start: a million wrong objects", lambda c: start(c, small, objects=wrong))
    yield Costly("start: a mask of 254 ids, 4096x4096", lambda c: start(c, frame, ids))
    yield Costly("start: a polygon of 8,000 points", lambda c: start(c, frame, objects=polygons))
    yield Costly("start: 16 boxes, 4096x4096", lambda c: start(c, frame, objects=boxes))
    dotted = start(http, middle, dots)
    if dotted.status_code == httpx.codes.CREATED:
        masks = f"/v1/sessions/{dotted.json()['session_id']}/masks"
        yield Costly(
            "masks: a million dots as polygons", lambda c: c.get(f"{masks}?format=polygons")
        )
        yield Costly("masks: a million dots as RLE", lambda c: c.get(masks))
    else:
        yield Costly("start: a mask of a million dots", lambda c: start(c, middle, dots))


def watch(url: str, connection: Connection) -> None:
    """Ask for `/healthz` and append to a session, in a process of its own, until told to stop.

    Every message on the connection is answered by the slowest `/healthz` in milliseconds since
    the last one, and the appends' milliseconds.
    """
    video = sample_video()
    slowest, appends, stop = [0.0], list[float](), threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
            while not stop.wait(WATCHED_S):
                began = time.perf_counter()
                http.get("/healthz").raise_for_status()
                slowest[0] = max(slowest[0], 1000 * (time.perf_counter() - began))

    def append() -> None:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
            started = start(http, video.frames[0], video.mask).raise_for_status().json()
            clips = f"/v1/sessions/{started['session_id']}/clips"
            for number, image in enumerate(video.endless(), start=1):
                if stop.wait(WATCHED_S):
                    return
                began = time.perf_counter()
                http.post(
                    clips,
                    params={"first_frame": number},
                    files=[("frames", ("0.jpg", image, "image/jpeg"))],
                ).raise_for_status()
                appends.append(1000 * (time.perf_counter() - began))

    with ThreadPoolExecutor(2) as threads:
        running = [threads.submit(ask), threads.submit(append)]
        try:
            while connection.recv():
                connection.send((slowest[0], list(appends)))
                slowest[0] = 0.0
                appends.clear()
        except EOFError:
            pass
        stop.set()
    for each in running:
        each.result()


@contextmanager
def watching(url: str) -> Iterator[Callable[[], tuple[float, list[float]]]]:
    """Watch from another process; yield what tells and resets its figures."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=watch, args=(url, theirs))
    process.start()
    theirs.close()

    def tell() -> tuple[float, list[float]]:
        ours.send(True)
        found: tuple[float, list[float]] = ours.recv()
        return found

    try:
        yield tell
    finally:
        ours.close()
        process.join()


def measure_peak(process: psutil.Process, url: str) -> tuple[float, str]:
    """Return the peak of resident megabytes under starts that come at once, and their answers."""
    frame = picture_bytes(np.full((SIDE, SIDE), 99, np.uint8), "JPEG")
    boxes = json.dumps([{"id": number, "box": [0, 0, SIDE, SIDE]} for number in range(1, 17)])
    peak, done = 0.0, threading.Event()

    def send(_: int) -> int:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:
            return start(http, frame, objects=boxes).status_code

    def look() -> None:
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, process.memory_info().rss / 1e6)

    with ThreadPoolExecutor(STARTS + 1) as threads:
        looking = threads.submit(look)
        statuses = list(threads.map(send, range(STARTS)))
        done.set()
        looking.result()
    counts = {status: statuses.count(status) for status in sorted(set(statuses))}
    return peak, ", ".join(f"{count} times {status}" for status, count in counts.items())


def main() -> None:
    """Print a table of requests, and the peak of memory."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="requests whose name holds this")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each request")
    args = parser.parse_args()
    with gateway(threads=0) as (url, process):
        client = httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False)
        with client as http, watching(url) as tell:
            requests = [each for each in list_requests(http) if args.only in each.name]
            tell()
            time.sleep(args.seconds)
            health, appends = tell()
            quiet = statistics.median(appends)
            print(
                "| request | answer | sent | s | slowest /healthz (ms) | append (ms) | to quiet |"
            )
            print("|---|---:|---:|---:|---:|---:|---:|")
            print(f"| none | | | | {health:.0f} | {quiet:.0f} | 1.0 |", flush=True)
            for request in requests:
                times, began = list[float](), time.perf_counter()
                while time.perf_counter() - began < args.seconds:
                    sent = time.perf_counter()
                    status = request.send(http).status_code
                    times.append(time.perf_counter() - sent)
                health, appends = tell()
                middle = statistics.median(appends) if appends else float("nan")
                own = f"{request.name} | {status} | {len(times)} | {statistics.median(times):.2f}"
                others = f"{health:.0f} | {middle:.0f} | {middle / quiet:.1f}"
                print(f"| {own} | {others} |", flush=True)
        peak, answers = measure_peak(process, url)
        print(f"\n{STARTS} starts at once, {SIDE}x{SIDE}, 16 boxes: {answers}; peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
