"""Traces of OpenTelemetry: from the client's `traceparent` through the service into Triton.

Code makes spans with the API, which does next to nothing until `export_spans` has set a provider.
A request is a span; so is a stream, from its opening to its end. A stream lasts for hours: each of
its clips is the root of a trace of its own, with a link to the stream's span.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.propagate import extract
from opentelemetry.trace import Link, Span, SpanKind

from service.errors import Misconfigured
from service.telemetry.audit import shorten_session
from service.telemetry.stage_times import StageTimes

FLUSH_MS: Final = 2000
EXPORT_S: Final = 5

tracer = trace.get_tracer("tamvt")
stream_span: ContextVar[Span | None] = ContextVar("stream_span", default=None)


@contextmanager
def export_spans(endpoint: str, *, ratio: float) -> Iterator[None]:
    """Send the spans made in the block to a collector (`http://HOST:4318`); without one, none.

    `ratio` of the traces that no caller has decided about are sent. What is left at the end of the
    block is sent within `FLUSH_MS`. Raise Misconfigured without the extra `otel`. A process can do
    this once.
    """
    if not endpoint:
        yield
        return
    # Imported where it is needed: an extra.
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"TAMVT_OTLP_ENDPOINT: pip install 'tamvt-serve[otel]' ({error})"
        ) from error
    provider = TracerProvider(
        sampler=ParentBasedTraceIdRatio(ratio),
        resource=Resource.create({"service.name": "tamvt"}),
        shutdown_on_exit=False,
    )
    url = f"{endpoint.rstrip('/')}/v1/traces"
    provider.add_span_processor(
        BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_S))
    )
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.force_flush(FLUSH_MS)
        provider.shutdown()


def caller_context(headers: Mapping[str, str]) -> Context | None:
    """Return the trace that a caller's headers name, if they do."""
    return extract(headers) if "traceparent" in headers else None


def trace_id(span: Span) -> str:
    """Return the id of a span's trace in hex; empty where there is none."""
    context = span.get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""


def begin_clip(session_id: str, *, first: int, last: int) -> Span:
    """Begin the span of one clip: a stream's is a trace of its own, with a link to the stream."""
    stream = stream_span.get()
    return tracer.start_span(
        "clip",
        context=None if stream is None else Context(),
        links=() if stream is None else (Link(stream.get_span_context()),),
        attributes={
            "tamvt.session": shorten_session(session_id),
            "tamvt.first_frame": first,
            "tamvt.last_frame": last,
        },
    )


@contextmanager
def within(span: Span) -> Iterator[None]:
    """Make the span the current one for the block; it ends there only if the block raises."""
    try:
        with trace.use_span(span):
            yield
    except BaseException:
        span.end()
        raise


def end_clip(span: Span, times: StageTimes) -> None:
    """End the span of a clip that is committed, with its milliseconds by stage."""
    if span.is_recording():
        span.set_attributes({f"tamvt.{name}": ms for name, ms in times.milliseconds().items()})
    span.end()


@contextmanager
def open_stream_span(headers: Mapping[str, str]) -> Iterator[Span]:
    """Open the span of a stream; the clips of tasks that begin in the block are linked to it."""
    with tracer.start_as_current_span(
        "stream", context=caller_context(headers), kind=SpanKind.SERVER
    ) as span:
        token = stream_span.set(span)
        try:
            yield span
        finally:
            stream_span.reset(token)
