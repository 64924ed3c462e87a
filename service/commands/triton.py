"""`tamvt triton`: a real Triton on this machine, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from service.errors import Misconfigured
from service.local.supervisor import catch_stop_signals
from service.local.triton import HOME, Stopped, local_triton


def run(
    repository: Annotated[
        Path, Parameter(help="model repository, as `tamvt-model export --triton` writes it")
    ],
    /,
    *,
    host: Annotated[str, Parameter(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="of gRPC; 0: a free one")] = 8001,
    metrics_port: Annotated[int, Parameter(help="of metrics; 0: a free one")] = 8002,
    home: Annotated[Path, Parameter(help="folder with the wheel nvidia-pytriton")] = HOME,
    otlp_endpoint: Annotated[
        str, Parameter(help="collector for its part of traces, as in http://127.0.0.1:4318")
    ] = "",
) -> int:
    """Return 0 after a clean stop; raise Misconfigured if it cannot start, or ends by itself."""
    with catch_stop_signals() as stop:
        try:
            with local_triton(
                repository,
                host=host,
                grpc_port=port,
                metrics_port=metrics_port,
                home=home,
                stop=stop,
                otlp_endpoint=otlp_endpoint,
            ) as server:
                print(f"serving on {server.url}", flush=True)
                status = stop.wait_for_exit(server.process)
        except Stopped:
            return 0
    if status is not None:
        raise Misconfigured(f"Triton ended by itself, with status {status}")
    return 0
