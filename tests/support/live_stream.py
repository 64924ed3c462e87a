"""A camera of the network, as many are: JPEGs one after the other in an answer that goes on."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import scene

FRAMES = 20
STEP_S = 0.04


class LiveServer(ThreadingHTTPServer):
    """`asked` is what was asked for; `listed` is what its playlist names, by default the film."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), CameraHandler)
        self.asked: list[str] = []
        self.listed = ""
        self.closing = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class CameraHandler(BaseHTTPRequestHandler):
    """/camera, /broken (cut off), /endless, /film.mp4, /away (to it), /list.m3u8, /silent."""

    protocol_version = "HTTP/1.1"  # chunks tell where an answer ends
    server: LiveServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        with suppress(OSError):  # whoever asked has enough
            self._answer()

    def _answer(self) -> None:
        match self.path:
            case "/camera" | "/broken":
                self._stream(range(FRAMES))
            case "/endless":
                self._stream(itertools.count())
            case "/film.mp4":
                self._send(scene.varied_video([STEP_S] * FRAMES, kind="mp4")[0])
            case "/list.m3u8":
                listed = self.server.listed or f"{self.server.address}/film.mp4"
                lines = ("#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXTINF:1,", listed)
                self._send("\n".join((*lines, "#EXT-X-ENDLIST", "")).encode())
            case "/away":
                self.send_response(302)
                self.send_header("Location", f"{self.server.address}/film.mp4")
                self.end_headers()
            case "/silent":
                self.server.closing.wait(60)
            case _:
                self.send_error(404)

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, numbers: Iterator[int] | range) -> None:
        whole = self.path != "/broken"
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=next")
        self.send_header(*(("Transfer-Encoding", "chunked") if whole else ("Connection", "close")))
        self.end_headers()
        for number in numbers:
            image = scene.jpeg(number)
            head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(image)}\r\n\r\n"
            part = head.encode() + image + b"\r\n"
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n" if whole else part)
            time.sleep(STEP_S)
        if whole:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def live_server() -> Iterator[LiveServer]:
    """Serve on a free port of this machine until the block is left."""
    with LiveServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
