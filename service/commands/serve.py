"""`tamvt serve`: runs the service until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from service.errors import Misconfigured
from service.server.malloc import keep_large_blocks

if TYPE_CHECKING:
    from fastapi import FastAPI

    from service.server.bounds import ServerConfig
    from service.server.listener import Listener
    from service.server.uvicorn_server import Tls
    from service.settings import Settings


def run(
    *,
    host: Annotated[str, Parameter(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="port to listen on; 0 picks a free one")] = 8000,
) -> int:
    """Return 0 after a clean stop; raise StartupError or Unavailable if it cannot start."""
    from service.settings import read_settings
    from service.telemetry.logging import catch_native_output, configure_logging

    keep_large_blocks()
    settings = read_settings()
    catch_native_output()
    configure_logging(settings.log_level)
    tls_files(settings)  # before anything is opened
    with listen(host, port, settings) as listener:
        if ip_address(listener.getsockname()[0]).is_loopback:
            if not settings.allowed_hosts:
                settings = settings.model_copy(update={"allowed_hosts": "localhost"})
        elif not settings.is_guarded and not settings.open_access:
            raise Misconfigured(
                f"TAMVT_KEYS: on {host} anybody could use it: set this or TAMVT_OIDC_ISSUER, "
                "TAMVT_TENANT_HEADER behind a proxy, or TAMVT_OPEN_ACCESS=true"
            )
        asyncio.run(serve(listener, settings))
    return 0


def listen(host: str, port: int, settings: Settings) -> Listener:
    """Return a listening socket with its limits; raise Misconfigured if it cannot be had."""
    from service.problems import write_refusal
    from service.server.listener import Connections, allow_connections, open_listener

    connections = Connections(
        limit=allow_connections(settings.max_connections), peer_limit=settings.max_peer_connections
    )
    return open_listener(host, port, connections=connections, write_refusal=write_refusal)


async def serve(listener: Listener, settings: Settings, app: FastAPI | None = None) -> None:
    """Open the service, serve the socket until SIGINT or SIGTERM, and close the service.

    `app` is another application than that of the settings.
    """
    from service.app import create_app
    from service.server.uvicorn_server import Server
    from service.server.workers import end_if_stuck, own_executor

    executor = own_executor(asyncio.get_running_loop())
    app = app or create_app(settings)
    # We open it, not uvicorn, which would turn one clear line into a traceback (decision 19).
    async with app.router.lifespan_context(app):
        tls = bool(settings.tls_certificate)
        server = Server(
            configure(app, settings),
            begin_closing=app.state.service.health.begin_closing,
            streams=app.state.streams,
            delay_s=settings.shutdown_delay_s,
            grace_s=settings.shutdown_grace_s,
            on_ready=lambda: print(f"listening on {address(listener, tls)}", flush=True),
        )
        await server.serve(sockets=[listener])
    end_if_stuck(executor)


def configure(app: FastAPI, settings: Settings) -> ServerConfig:
    """Return uvicorn's configuration under these settings."""
    from service.problems import write_refusal
    from service.server.bounds import Bounds, UnreadResponses
    from service.server.uvicorn_server import server_config

    # What nobody reads is held like an upload.
    unread = UnreadResponses(max_bytes=settings.max_request_bytes // 2)
    return server_config(
        app,
        frame_bytes=settings.max_frame_bytes,
        ping_s=settings.stream_ping_s,
        bounds=Bounds(unread, write_refusal),
        tls=tls_files(settings),
    )


def tls_files(settings: Settings) -> Tls:
    """Return the files of TLS; raise Misconfigured if they cannot be used."""
    from service.server.uvicorn_server import Tls

    names = (settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    tls = Tls(*(str(Path(name).expanduser()) if name else "" for name in names))
    tls.check()
    return tls


def address(listener: socket.socket, tls: bool = False) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
