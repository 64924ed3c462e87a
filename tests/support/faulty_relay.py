"""An HTTP relay before the real service that fails as networks and busy services do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

import httpx

Fault = Literal["busy", "lose answer", "drop", "proxy error", "stall", "nonsense", "none"]
PROBLEM = {"type": "/problems/overloaded", "title": "Too much", "status": 503, "detail": "full"}


@dataclass
class Relay:
    """A relay and its faults: one for each of the next requests, none for further ones."""

    target: str
    faults: list[Fault] = field(default_factory=list)
    retry_after_s: float = 0.0
    seen: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@contextmanager
def relay_to(target: str, faults: Sequence[Fault]) -> Iterator[Relay]:
    """Run a relay on a free port until the end of the block."""
    relay = Relay(target, list(faults))
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(relay)) as server:
        relay.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield relay
        finally:
            relay.released.set()
            server.shutdown()
            thread.join()


def _handler_of(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._relay()

        def do_POST(self) -> None:
            self._relay()

        def do_PUT(self) -> None:
            self._relay()

        def log_message(self, format: str, *args: object) -> None:
            """Print nothing: tests read `relay.seen`."""

        def _relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            relay.seen.append(f"{self.command} {self.path}")
            fault = relay.faults.pop(0) if relay.faults else "none"
            self.close_connection = True
            if fault == "drop":
                return
            if fault == "stall":
                relay.released.wait(30)
                return
            if fault == "busy":
                problem = {**PROBLEM, "retry_after_s": relay.retry_after_s}
                self._answer(503, json.dumps(problem).encode(), "application/problem+json")
            elif fault == "proxy error":
                self._answer(502, b"<h1>Bad gateway</h1>", "text/html")
            elif fault == "nonsense":
                self._answer(200, b"<h1>Welcome to the hotel</h1>", "text/html")
            else:
                self._forward(body, lose=fault == "lose answer")

        def _forward(self, body: bytes, *, lose: bool) -> None:
            answer = httpx.request(
                self.command,
                relay.target + self.path,
                content=body,
                headers={"content-type": self.headers.get("content-type", "")},
                timeout=30,
            )
            if not lose:
                kind = answer.headers.get("content-type", "")
                self._answer(answer.status_code, answer.content, kind)

        def _answer(self, status: int, body: bytes, kind: str) -> None:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler
