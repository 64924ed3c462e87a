"""Measure what metrics, log, traces and keys cost together: a service with and without, in turns.

    python -m loadtests.telemetry_cost [--rounds 9] [--set TAMVT_MODEL=toy ...]

One service asks for a key, counts, logs each request as JSON and sends every span to a collector
that this program runs; the other is open, its counters, request meter and spans of calls are
replaced by nothing, and no line below a warning is written. Both run with a private Redis. In each
round both get the same appends and the same stream, in changing order, so that a busy machine meets
both alike. What counts is the median of the rounds' ratios; with a model that costs almost nothing
it is worst.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

from loadtests.compare import measure_appends, measure_stream
from loadtests.gateways import ServedGateway, running_gateway
from loadtests.videos import sample_video
from service.access.key_stores import KeyFile
from service.access.keys import make_key

WITHOUT: Final = """
import contextlib, sys
from service import __main__, app
from service.telemetry import call_times, metrics, tracing

class Silent(metrics.Metrics):
    def count_frames(self, *args, **options): pass
    def count_request(self, *args, **options): pass

class Through:
    def __init__(self, app, *, metrics): self._app = app
    async def __call__(self, scope, receive, send): await self._app(scope, receive, send)

app.Metrics, app.RequestMeter = Silent, Through
call_times.CallTimes.measure = lambda self, operation: contextlib.nullcontext()
sys.exit(__main__.main(["serve", "--port", "0"]))
"""


@contextmanager
def running_collector() -> Iterator[str]:
    """Run a collector that drops what it gets, and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def running_with_all(given: Mapping[str, str], collector: str) -> Iterator[ServedGateway]:
    """Run a service that tells everything and asks for a key, which its client shows."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        text, kept = make_key("load", ["read", "write"])
        asyncio.run(KeyFile(keys).put(kept))
        own = {"TAMVT_LOG_FORMAT": "json", "TAMVT_OTLP_ENDPOINT": collector}
        with running_gateway(settings={**given, **own, "TAMVT_KEYS": str(keys)}) as gateway:
            gateway.http.headers["Authorization"] = f"Bearer {text}"
            yield gateway


def main() -> None:
    """Print a table: medians with and without, and the median of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    given = dict(item.split("=", 1) for item in args.set)
    video, rounds = sample_video(), []
    with (
        running_collector() as collector,
        running_gateway(
            words=("-c", WITHOUT), settings={**given, "TAMVT_LOG_LEVEL": "warning"}
        ) as without,
        running_with_all(given, collector) as with_all,
    ):
        for number in range(args.rounds + 1):
            found = {}
            for gateway in (without, with_all) if number % 2 else (with_all, without):
                streamed = asyncio.run(measure_stream(gateway, video))
                found[gateway.url] = {**measure_appends(gateway, video), **streamed}
            rounds.append((found[without.url], found[with_all.url]))
    print("| ms per frame | without | with | of the rounds |\n|---|---:|---:|---:|")
    for name in rounds[0][0]:
        pairs = [(bare[name], full[name]) for bare, full in rounds[1:]]  # the first one warms up
        bare, full = (statistics.median(values) for values in zip(*pairs, strict=True))
        ratio = statistics.median(more / less for less, more in pairs)
        print(f"| {name} | {bare:.2f} | {full:.2f} | {ratio - 1:+.1%} |")


if __name__ == "__main__":
    main()
