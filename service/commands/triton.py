"""`tamvt triton`: a real Triton on this machine, until it is told to stop."""

from __future__ import annotations

import argparse
from pathlib import Path

from service.errors import Misconfigured
from service.local.supervisor import StopSignals, catch_stop_signals
from service.local.triton import HOME, Stopped, local_triton


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
    """Return 0 after a clean stop; raise Misconfigured if it cannot start, or ends by itself."""
    with catch_stop_signals() as stop:
        try:
            return _serve(arguments, stop)
        except Stopped:
            return 0


def _serve(arguments: argparse.Namespace, stop: StopSignals) -> int:
    with local_triton(
        arguments.repository,
        host=arguments.host,
        grpc_port=arguments.port,
        metrics_port=arguments.metrics_port,
        home=arguments.home,
        stop=stop,
    ) as server:
        print(f"serving on {server.url}", flush=True)
        status = stop.wait_for_exit(server.process)
    if status is not None:
        raise Misconfigured(f"Triton ended by itself, with status {status}")
    return 0
