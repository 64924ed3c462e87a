"""`tamvt triton`: a real Triton on this machine, until it is told to stop."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import Misconfigured
from service.local.triton import HOME, local_triton


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to serve, and where."""
    parser.add_argument(
        "repository", type=Path, help="model repository, as `tamvt-model export --triton` writes it"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8001, help="of gRPC; 0: a free one (%(default)s)"
    )
    parser.add_argument(
        "--metrics-port", type=int, default=8002, help="of metrics; 0: a free one (%(default)s)"
    )
    parser.add_argument(
        "--home", type=Path, default=HOME, help="folder with the wheel nvidia-pytriton"
    )


def run(arguments: argparse.Namespace) -> int:
    """0 after a clean stop; Misconfigured if it cannot start, or ends by itself."""
    with (
        _stoppable(),
        local_triton(
            arguments.repository,
            host=arguments.host,
            grpc_port=arguments.port,
            metrics_port=arguments.metrics_port,
            home=arguments.home,
        ) as server,
    ):
        print(f"serving on {server.url}", flush=True)
        try:
            status = server.process.wait()
        except _Stop:
            return 0
        raise Misconfigured(f"Triton ended by itself, with status {status}")


class _Stop(BaseException):
    """We were told to stop."""


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise _Stop, once: what follows is the clean end."""

    def stop(*_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise _Stop

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        yield
    except _Stop:  # while it was starting
        return
