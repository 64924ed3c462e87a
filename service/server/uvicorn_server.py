"""uvicorn as the service runs it: WebSockets for images, and a shutdown without loss.

uvicorn alone closes every WebSocket as soon as it is told to stop. So the streams are drained
before uvicorn is told.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Protocol

import uvicorn
from starlette.types import ASGIApp

from service.errors import Misconfigured
from service.server.bounds import IDLE_S, Bounds, ServerConfig
from service.server.http_protocol import BoundedHttp
from service.server.websocket_protocol import BoundedWebSocket

MESSAGE_OVERHEAD: Final = 65_536  # bytes above the largest frame, which the service itself refuses
STREAMS_SHARE: Final = 0.8  # of the grace time
REQUESTS_SHARE: Final = 0.9  # likewise, from its beginning; the rest is for closing what is open


class Drainable(Protocol):
    """The streams, which end first when the service stops."""

    async def drain(self, *, deadline_s: float) -> None:
        """Wait until the streams have ended, or the deadline is over."""
        ...


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of the service's certificate, its key, and the authorities of its clients' ones.

    Without a certificate there is no TLS, without authorities clients need no certificate.
    """

    certificate: str = ""
    key: str = ""
    client_ca: str = ""

    def check(self) -> None:
        """Raise Misconfigured, naming the setting, unless the files can be used."""
        if not self.certificate:
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key or None, password="")
        except (OSError, ValueError) as error:
            raise Misconfigured(f"TAMVT_TLS_CERTIFICATE, TAMVT_TLS_KEY: {error}") from error
        if self.client_ca:
            try:
                context.load_verify_locations(self.client_ca)
            except OSError as error:
                raise Misconfigured(f"TAMVT_TLS_CLIENT_CA: {error}") from error

    def options(self) -> dict[str, Any]:
        """Return what uvicorn is told."""
        if not self.certificate:
            return {}
        asked = ssl.CERT_REQUIRED if self.client_ca else ssl.CERT_NONE
        return {
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key or None,
            "ssl_ca_certs": self.client_ca or None,
            "ssl_cert_reqs": asked,
        }


NO_TLS: Final = Tls()


def make_server_config(
    app: ASGIApp, *, frame_bytes: int, ping_s: float, bounds: Bounds, tls: Tls = NO_TLS
) -> ServerConfig:
    """Return uvicorn's configuration; the caller opens the lifespan (decision 19)."""
    return ServerConfig(
        app,
        bounds=bounds,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        proxy_headers=False,  # the peer is who connects: what it says of others is for `access`
        ws_max_size=frame_bytes + MESSAGE_OVERHEAD,
        ws_ping_interval=ping_s,
        ws_ping_timeout=ping_s,
        ws_per_message_deflate=False,  # images do not get smaller
        # A pipelined request begins within the one before: it is not to log and trace as that one.
        reset_contextvars=True,
        **tls.options(),
    )


class Server(uvicorn.Server):
    """Tells when it is ready. The first signal drains the streams and then stops the server."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        begin_closing: Callable[[], None],
        streams: Drainable,
        delay_s: float,
        grace_s: float,
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._begin_closing = begin_closing
        self._streams = streams
        self._delay_s = delay_s
        self._grace_s = grace_s
        self._on_ready = on_ready
        self._stopping: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then call `on_ready`."""
        await super().startup(sockets)
        self._on_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the event loop; do not raise them again, as uvicorn would."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop gently at the first signal, at once at the second."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self.stop())
        else:
            self._stopping.cancel()
            self.should_exit = True
            super().handle_exit(sig, frame)

    async def stop(self) -> None:
        """Fail readiness, accept no connection, drain the streams, finish the requests."""
        loop = asyncio.get_running_loop()
        self._begin_closing()
        await asyncio.sleep(self._delay_s)
        until = loop.time() + REQUESTS_SHARE * self._grace_s
        for server in self.servers:
            server.close()
        await self._streams.drain(deadline_s=STREAMS_SHARE * self._grace_s)
        self.config.timeout_graceful_shutdown = max(1, int(until - loop.time()))
        self.should_exit = True
