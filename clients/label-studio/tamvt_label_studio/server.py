"""Label Studio's ML backend protocol over HTTP: /health, /setup, /predict, /webhook.

Label Studio shows a failed answer by its reason phrase alone, so that is where the sentence goes.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tamvt_client import Busy, ClientError, TimedOut, Unreachable
from tamvt_label_studio.backend import Backend
from tamvt_label_studio.errors import NoPrediction

MAX_BODY: Final = 64_000_000
MODEL: Final = "TAM-VT Serve"

log = logging.getLogger(__name__)


def serve(backend: Backend, *, host: str, port: int) -> None:
    """Answer Label Studio until the process is stopped."""
    with open_server(backend, host=host, port=port) as server:
        print(f"listening on http://{host}:{server.server_port}", flush=True)  # noqa: T201
        with suppress(KeyboardInterrupt):
            server.serve_forever()


def open_server(backend: Backend, *, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that is bound and not yet running."""

    class BoundHandler(BackendHandler):
        pass

    BoundHandler.backend = backend
    server = ThreadingHTTPServer((host, port), BoundHandler)
    server.daemon_threads = True
    return server


class BackendHandler(BaseHTTPRequestHandler):
    """One request of Label Studio."""

    backend: Backend
    timeout = 120

    def do_GET(self) -> None:
        """Tell that the backend is there; the service behind it is first asked by /setup."""
        if self.path.rstrip("/") in ("", "/health"):
            self._answer(lambda _: {"status": "UP", "model_class": MODEL}, {})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        """Answer one of the calls of the protocol."""
        calls = {
            "/setup": self.backend.setup,
            "/predict": self.backend.predict,
            "/webhook": lambda _: {},  # nothing is learned from annotations
        }
        call = calls.get(self.path.rstrip("/"))
        length = self.headers.get("Content-Length", "")
        if call is None:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such call")
        elif self.headers.get_content_type() != "application/json":
            # Else any page in a browser could send it, without asking this server first.
            self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "the body is to be application/json")
        elif not length.isdigit() or int(length) > MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has over {MAX_BODY} bytes")
        else:
            try:
                body = json.loads(self.rfile.read(int(length)))
            except ValueError:
                self._refuse(HTTPStatus.BAD_REQUEST, "the body is no JSON")
            else:
                self._answer(call, body)

    def _answer(self, call: Any, body: dict[str, Any]) -> None:
        try:
            answer = json.dumps(call(body)).encode()
        except NoPrediction as error:
            self._refuse(error.status, str(error))
        except (Busy, TimedOut, Unreachable) as error:
            self._refuse(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"TAM-VT Serve is away or busy, try again: {error}",
            )
        except ClientError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"TAM-VT Serve: {error}")
        except Exception:
            log.exception("a prediction failed")
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "the backend failed, see its log")
        else:
            self._send(HTTPStatus.OK, "OK", answer)

    def _refuse(self, status: HTTPStatus, text: str) -> None:
        # A header is one line of Latin-1.
        reason = " ".join(text.split()).encode("latin-1", "replace").decode("latin-1")
        self._send(status, reason, json.dumps({"error": text}).encode())

    def _send(self, status: HTTPStatus, reason: str, body: bytes) -> None:
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log a request as everything else is logged."""
        log.info(format, *args)
