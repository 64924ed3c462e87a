"""WebSockets as uvicorn speaks them, with bounds on what small frames may cost."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

from uvicorn import Config
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.exceptions import ProtocolError
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from service.errors import BadRequest
from service.server.bounds import ServerConfig

MAX_FRAGMENTS: Final = 1024  # of a message
SMALL_BYTES: Final = 512  # of a frame that costs more to parse than to carry
SMALL_PER_S: Final = 1000
SMALL_AT_ONCE: Final = 2000
INVALID_TEXT: Final = 1007


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection. Its handshake is always answered, its small frames have a rate.

    uvicorn 0.54 drops the answer that websockets has for a head it cannot read, and what comes
    in one packet with the head; it answers pings without looking at whether the pongs are read.
    """

    early: bytes = b""  # what came after the head, before the handshake was answered

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
        self.conn = _FrameParser(
            max_size=config.ws_max_size, logger=logging.getLogger("uvicorn.error")
        )

    def data_received(self, data: bytes) -> None:
        """Read on; the first data are the whole head, which is answered in any case."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            answer = b"".join(self.conn.data_to_send())
            refusal = BadRequest("not a WebSocket handshake that is understood here")
            self.transport.write(answer or self._bounds.write_refusal(refusal))
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        """Let what the client sends wait until the handshake is answered."""
        self.transport.pause_reading()
        super().handle_connect(event)

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application; then read on if it was the handshake's answer."""
        await super().send(message)
        match message["type"]:
            case "websocket.accept":
                self.transport.resume_reading()
                early, self.early = self.early, b""
                if early:
                    self.data_received(early)
            case "websocket.http.response.body" if self.close_sent:
                self.handshake_complete = True  # otherwise uvicorn logs an error for each refusal

    def send_receive_event_to_app(self) -> None:
        """Close the connection for text that is not UTF-8, where uvicorn also logs a traceback."""
        if self.curr_msg_data_type == "text":
            self.frames = [b"".join(self.frames)]
            try:
                self.frames[0].decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.fail(INVALID_TEXT, "text that is not UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answer a ping, unless the answers before are not read."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > self._bounds.unread_pongs:
            self.transport.abort()


class _FrameParser(ServerProtocol):
    """websockets' parser; it also refuses messages in too many pieces and floods of small frames.

    It counts frames as they are parsed: one packet may hold 40,000.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._fragments = 0
        self._allowance = float(SMALL_AT_ONCE)
        self._counted_s = time.monotonic()

    def recv_frame(self, frame: Frame) -> None:
        """Take one frame; raise ProtocolError where there are too many."""
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._fragments = 0
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            self._fragments += 1
            if self._fragments > MAX_FRAGMENTS:
                raise ProtocolError(f"more than {MAX_FRAGMENTS} fragments of a message")
        if len(frame.data) < SMALL_BYTES:
            now = time.monotonic()
            earned = SMALL_PER_S * (now - self._counted_s)
            self._counted_s = now
            self._allowance = min(SMALL_AT_ONCE, self._allowance + earned) - 1
            if self._allowance < 0:
                raise ProtocolError(f"more than {SMALL_PER_S} small frames a second")
        super().recv_frame(frame)
