"""`tamvt serve`: runs the service until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from typing import Annotated

from cyclopts import Parameter

from service.errors import Misconfigured
from service.server.malloc import keep_large_blocks


def run(
    *,
    host: Annotated[str, Parameter(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="port to listen on; 0 picks a free one")] = 8000,
) -> int:
    """Return 0 after a clean stop; raise StartupError or Unavailable if it cannot start."""
    keep_large_blocks()
    with listen(host, port) as listener:
        asyncio.run(serve(listener))
    return 0


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; Misconfigured if the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise Misconfigured(f"cannot listen on {host}, port {port}: {error}") from error


async def serve(listener: socket.socket) -> None:
    """Opens the service, serves the socket until SIGINT or SIGTERM, and closes the service."""
    from service.app import create_app
    from service.server.uvicorn_server import Server, server_config, tune
    from service.settings import read_settings
    from service.telemetry.logging import configure_logging

    settings = read_settings()
    configure_logging(settings.log_level)
    app = create_app(settings)
    # We open it, not uvicorn, which would turn one clear line into a traceback (decision 19).
    async with app.router.lifespan_context(app):
        tune(listener)
        server = Server(
            server_config(app, frame_bytes=settings.max_frame_bytes, ping_s=settings.stream_ping_s),
            begin_closing=app.state.service.health.begin_closing,
            streams=app.state.streams,
            delay_s=settings.shutdown_delay_s,
            grace_s=settings.shutdown_grace_s,
            on_ready=lambda: print(f"listening on {address(listener)}", flush=True),
        )
        await server.serve(sockets=[listener])


def address(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
