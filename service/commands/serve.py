"""`tamvt serve`: runs the service until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from service.errors import Misconfigured
from service.server.malloc import keep_large_blocks

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.server.bounds import ServerConfig
    from service.server.listener import Connections, Listener
    from service.server.uvicorn_server import Tls
    from service.settings import Settings

MOST_WORKERS = 64
PACKAGE_ROOT = Path(__file__).resolve().parents[2]


def run(
    *,
    host: Annotated[str, Parameter(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="port to listen on; 0 picks a free one")] = 8000,
    workers: Annotated[int, Parameter(help="processes on this port, which share the cores")] = 1,
    config: Annotated[Path | None, Parameter(help="TOML file of settings")] = None,
    model: Annotated[str | None, Parameter(help="name of the served model")] = None,
    weights: Annotated[Path | None, Parameter(help="folder of graphs and weights")] = None,
    engine: Annotated[str | None, Parameter(help="what runs it: embedded or triton")] = None,
    triton_url: Annotated[str | None, Parameter(help="host and port of Triton's gRPC")] = None,
    state: Annotated[Path | None, Parameter(help="folder of the private Redis")] = None,
    keys: Annotated[str | None, Parameter(help="file of API keys, or redis")] = None,
    log_level: Annotated[str | None, Parameter(help="debug, info, warning or error")] = None,
) -> int:
    """Return 0 after a clean stop; raise StartupError or Unavailable if it cannot start.

    Flags come before TAMVT_ variables, and those before the file. What may hold a password, such
    as the address of a Redis, is no flag: everybody on a machine sees those.
    """
    from service.settings import read_settings
    from service.telemetry.logging import catch_native_output, configure_logging
    from service.telemetry.tracing import export_spans

    if not 1 <= workers <= MOST_WORKERS:
        raise Misconfigured(f"--workers is 1 to {MOST_WORKERS}, not {workers}")
    keep_large_blocks()
    flags = {"model": model, "weights": weights, "engine": engine, "triton_url": triton_url}
    flags |= {"state": state, "keys": keys, "log_level": log_level}
    settings = read_settings(config, flags)
    if workers == 1:  # else each of them does so, and we print nothing
        catch_native_output()
    configure_logging(settings.log_level, log_format=settings.log_format)
    read_tls_files(settings)  # before anything is opened
    with listen(host, port, settings) as listener:
        settings = fit_to_listener(settings, listener)
        if workers > 1:
            return asyncio.run(serve_with_workers(listener, settings, count=workers))
        with export_spans(settings.otlp_endpoint, ratio=settings.trace_ratio):
            asyncio.run(serve(listener, settings))
    return 0


def run_worker(metrics_folder: Path, listening: int, tell: int) -> int:
    """Serve the inherited socket `listening`; write a byte to the pipe `tell` when ready.

    Its metrics are those of all workers, who leave them in `metrics_folder`.
    """
    from service.problems import write_refusal
    from service.server.listener import Listener
    from service.settings import read_settings
    from service.telemetry.logging import catch_native_output, configure_logging
    from service.telemetry.tracing import export_spans

    keep_large_blocks()
    settings = read_settings()
    catch_native_output()
    configure_logging(settings.log_level, log_format=settings.log_format)

    def on_ready() -> None:
        os.write(tell, b"1")
        os.close(tell)

    inherited = socket.socket(fileno=listening)
    with (
        Listener(inherited, count_connections(settings), write_refusal) as listener,
        export_spans(settings.otlp_endpoint, ratio=settings.trace_ratio),
    ):
        own = fit_to_listener(settings, listener)
        asyncio.run(serve(listener, own, on_ready=on_ready, metrics_folder=metrics_folder))
    return 0


async def serve_with_workers(listener: Listener, settings: Settings, *, count: int) -> int:
    """Serve the socket with `count` processes on one Redis; return the exit status."""
    from contextlib import AsyncExitStack
    from tempfile import TemporaryDirectory

    from service.local.gateways import GatewayCommand, keep_gateways
    from service.local.private_redis import private_redis
    from service.settings import environment_of

    threads = settings.engine_threads or len(os.sched_getaffinity(0))
    search = os.pathsep.join(filter(None, [str(PACKAGE_ROOT), os.environ.get("PYTHONPATH")]))
    own = {
        "PYTHONPATH": search,
        "TAMVT_ENGINE_THREADS": str(max(1, threads // count)),
        "TAMVT_BANK_BYTES": str(max(1, settings.bank_bytes // count)),
    }
    async with AsyncExitStack() as stack:
        if not settings.redis_url:
            own["TAMVT_REDIS_URL"] = await stack.enter_async_context(
                private_redis(settings.state, most_bytes=settings.private_redis_bytes)
            )
        folder = stack.enter_context(TemporaryDirectory(prefix="tamvt-metrics-"))
        command = GatewayCommand(
            (sys.executable, "-P", "-m", "service.commands.worker", folder),
            {**environment_of(settings), **own},
            listener,
        )
        where = write_address(listener, bool(settings.tls_certificate))
        return await keep_gateways(
            command,
            count=count,
            on_ready=lambda: print(f"listening on {where}", flush=True),
            stop_s=settings.shutdown_delay_s + settings.shutdown_grace_s,
        )


def fit_to_listener(settings: Settings, listener: socket.socket) -> Settings:
    """Return the settings, under which a service on loopback alone is called localhost.

    Raise Misconfigured if others than this machine could use it without a key.
    """
    host = listener.getsockname()[0]
    if ip_address(host).is_loopback:
        if settings.allowed_hosts:
            return settings
        return settings.model_copy(update={"allowed_hosts": "localhost"})
    if not settings.is_guarded and not settings.open_access:
        raise Misconfigured(
            f"TAMVT_KEYS: on {host} anybody could use it: set this or TAMVT_OIDC_ISSUER, "
            "TAMVT_TENANT_HEADER behind a proxy, or TAMVT_OPEN_ACCESS=true"
        )
    return settings


def listen(host: str, port: int, settings: Settings) -> Listener:
    """Return a listening socket with its limits; raise Misconfigured if it cannot be had."""
    from service.problems import write_refusal
    from service.server.listener import open_listener

    connections = count_connections(settings)
    return open_listener(host, port, connections=connections, write_refusal=write_refusal)


def count_connections(settings: Settings) -> Connections:
    """Return the count of a process's connections, with the limits of the settings."""
    from service.server.listener import Connections, allow_connections

    return Connections(
        limit=allow_connections(settings.max_connections), peer_limit=settings.max_peer_connections
    )


async def serve(
    listener: Listener,
    settings: Settings,
    app: FastAPI | None = None,
    *,
    on_ready: Callable[[], None] | None = None,
    metrics_folder: Path | None = None,
) -> None:
    """Open the service, serve the socket until SIGINT or SIGTERM, and close the service.

    `app` is another application than that of the settings; `on_ready` is called instead of
    printing the address; workers share their metrics in `metrics_folder`.
    """
    from service.app import create_app
    from service.server.uvicorn_server import Server
    from service.server.workers import end_if_stuck, use_own_executor
    from service.telemetry.shared_metrics import share_metrics

    executor = use_own_executor(asyncio.get_running_loop())
    app = app or create_app(settings)
    # We open it, not uvicorn, which would turn one clear line into a traceback (decision 19).
    async with (
        app.router.lifespan_context(app),
        share_metrics(app.state.service.metrics, metrics_folder),
    ):
        where = write_address(listener, bool(settings.tls_certificate))
        server = Server(
            configure(app, settings),
            begin_closing=app.state.service.health.begin_closing,
            streams=app.state.streams,
            delay_s=settings.shutdown_delay_s,
            grace_s=settings.shutdown_grace_s,
            on_ready=on_ready or (lambda: print(f"listening on {where}", flush=True)),
        )
        await server.serve(sockets=[listener])
    end_if_stuck(executor)


def configure(app: FastAPI, settings: Settings) -> ServerConfig:
    """Return uvicorn's configuration under these settings."""
    from service.problems import write_refusal
    from service.server.bounds import Bounds, UnreadResponses
    from service.server.uvicorn_server import make_server_config

    # What nobody reads is held like an upload.
    unread = UnreadResponses(max_bytes=settings.max_request_bytes // 2)
    return make_server_config(
        app,
        frame_bytes=settings.max_frame_bytes,
        ping_s=settings.stream_ping_s,
        bounds=Bounds(unread, write_refusal),
        tls=read_tls_files(settings),
    )


def read_tls_files(settings: Settings) -> Tls:
    """Return the files of TLS; raise Misconfigured if they cannot be used."""
    from service.server.uvicorn_server import Tls

    tls = Tls(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    tls.check()
    return tls


def write_address(listener: socket.socket, tls: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
