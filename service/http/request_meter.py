"""What is told of every request: metrics, a span, one line in the log, and an id to ask for."""

from __future__ import annotations

import logging
import re
import secrets
import time
from http import HTTPMethod, HTTPStatus
from typing import Final

from opentelemetry.trace import SpanKind, Status, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from service.telemetry.audit import shorten_session
from service.telemetry.metrics import Metrics
from service.telemetry.tracing import caller_context, trace_id, tracer

METHODS: Final = frozenset(HTTPMethod)
REQUEST_ID: Final = re.compile(r"[\w.:-]{1,64}", re.ASCII)
PROBES: Final = ("/healthz", "/readyz", "/metrics")  # come every few seconds: told at debug

log = logging.getLogger("service.requests")


class RequestMeter:
    """ASGI middleware that counts, traces and logs every request under the path of its route."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        # Unknown paths and methods share one label: a client may send any number of them.
        method = scope["method"] if scope["method"] in METHODS else "other"
        status, received, sent = 500, 0, 0
        begin_s = time.perf_counter()

        async def metered_receive() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def metered_send(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            sent += len(message.get("body", b""))
            await send(message)

        metrics = self._metrics
        with (
            metrics.in_flight.track_inprogress(),
            tracer.start_as_current_span(
                method, context=caller_context(headers), kind=SpanKind.SERVER
            ) as span,
            bound_contextvars(request_id=request_id, trace=trace_id(span)),
        ):
            try:
                await self._app(scope, metered_receive, metered_send)
            finally:
                spent_s = time.perf_counter() - begin_s
                route = getattr(scope.get("route"), "path", "other")
                metrics.count_request(
                    method, route, status, received=received, sent=sent, seconds=spent_s
                )
                told = {"method": method, "route": route, "status": status}
                if session_id := scope.get("path_params", {}).get("session_id"):
                    told["session"] = shorten_session(session_id)
                span.update_name(f"{method} {route}")
                span.set_attributes({f"tamvt.{name}": value for name, value in told.items()})
                if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                    span.set_status(Status(StatusCode.ERROR))
                told |= {"received": received, "sent": sent, "ms": round(1000 * spent_s, 1)}
                level = logging.DEBUG if route in PROBES else logging.INFO
                log.log(level, "request", extra={"fields": told, "every": True})
