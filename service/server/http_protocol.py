"""HTTP/1.1 as uvicorn speaks it, with bounds on what a client may send before it is answered."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.errors import BadRequest, HeadTooLarge, SlowUpload, TamvtError
from service.server.bounds import ServerConfig
from service.server.websocket_protocol import BoundedWebSocket

# What parsers read differently, so that one in front may see another request (RFC 9112, 2.2, 5.2).
AMBIGUOUS_LINE: Final = re.compile(rb"(?<!\r)\n|\r\n[ \t]")


class BoundedHttp(H11Protocol):
    """One connection. Its head has a deadline and a size, its answers are counted until read.

    uvicorn waits for a head, and for the rest of a refused body, as long as bytes trickle in, or
    for ever if none do (Kludex/uvicorn#157); h11 bounds a head only while its end is missing.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, ServerConfig)
        self._bounds = config.bounds
        self.conn = self._parser = _HeadParser(max_bytes=config.bounds.head_bytes)
        self._due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a head from now on."""
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Read on; unless a request is being answered, the deadline runs."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_expecting()
        elif self._due is None and self.transport.get_protocol() is self:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._stop_expecting()
        self._bounds.unread.remove(self.transport)

    def pause_writing(self) -> None:
        """Count what the client does not read."""
        super().pause_writing()
        self._bounds.unread.add(self.transport)

    def resume_writing(self) -> None:
        """Count it no longer."""
        super().resume_writing()
        self._bounds.unread.remove(self.transport)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over, with what came after the head in the same packet."""
        self._stop_expecting()
        super().handle_websocket_upgrade(event)
        successor = self.transport.get_protocol()
        assert isinstance(successor, BoundedWebSocket)
        successor.early = self.conn.trailing_data[0]

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed with a problem, and close the connection."""
        self._refuse(self._parser.refusal or BadRequest(msg))

    def _refuse(self, refusal: TamvtError) -> None:
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            self.transport.write(self._bounds.write_refusal(refusal))
        self.transport.close()

    def _expect_head(self) -> None:
        self._due = self.loop.call_later(self._bounds.head_s, self._give_up)

    def _stop_expecting(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _give_up(self) -> None:
        self._due = None
        begun, _ = self.conn.trailing_data
        if begun and self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            seconds = f"{self._bounds.head_s:g} s"
            self._refuse(SlowUpload(f"the head of the request took longer than {seconds}"))
        else:  # a browser opens connections ahead and would take an answer for its next one's
            self.transport.close()


class _HeadParser(h11.Connection):
    """h11's parser; it also refuses heads that are too large, of two lengths, or of odd lines."""

    def __init__(self, *, max_bytes: int) -> None:
        super().__init__(h11.SERVER, max_bytes)
        self._max_bytes = max_bytes
        self.refusal: TamvtError | None = None

    def next_event(self) -> Any:
        """Return the next event; raise RemoteProtocolError, and keep `refusal`, for a bad one."""
        received = self.trailing_data[0] if self.their_state is h11.IDLE else b""
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                request = event
                fields = sum(len(name) + len(value) + 4 for name, value in request.headers)
                if len(request.method) + len(request.target) + fields > self._max_bytes:
                    raise h11.RemoteProtocolError("the head is too large", error_status_hint=431)
                if AMBIGUOUS_LINE.search(received.partition(b"\r\n\r\n")[0]):
                    raise h11.RemoteProtocolError("a line of its head is folded or ends without CR")
                # A proxy in front may believe the other length: RFC 9112, 6.1.
                if {b"content-length", b"transfer-encoding"} <= {
                    name for name, _ in request.headers
                }:
                    raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding contradict")
        except h11.RemoteProtocolError as error:
            if error.error_status_hint == 431:
                self.refusal = HeadTooLarge(
                    f"the head of a request may have {self._max_bytes} bytes", limit=self._max_bytes
                )
            else:
                self.refusal = BadRequest(f"not an HTTP request: {error}")
            raise
        return event
