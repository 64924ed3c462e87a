"""The WebSocket of a session, and the tickets for it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request, WebSocket
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.responses import Response
from starlette.websockets import WebSocketDisconnect, WebSocketDisconnected
from structlog.contextvars import bound_contextvars

from service import errors
from service.access.callers import Caller
from service.access.parameters import DIGITS, check_parameters
from service.problems import MEDIA_TYPE, describe_problem, document_errors, find_kind, headers_of
from service.stream.close_reasons import Disconnected
from service.stream.host import StreamHost, StreamRequest
from service.stream.outbox import Message
from service.stream.stream_parts import ConnectionOptions
from service.telemetry.audit import shorten_session
from service.telemetry.tracing import open_stream_span, trace_id
from tamvt_client import wire
from tamvt_client.messages import Problem, TicketOut

router = APIRouter(prefix="/v1/sessions", tags=["stream"])

INTERVAL, SHORTEST_S, LONGEST_S = "interval:", 0.5, 5.0
SECONDS_APART = r"^interval:[0-9]{1,2}(\.[0-9]{1,6})?$"

Number = Annotated[int, Field(ge=0, le=wire.MAX_NUMBER), DIGITS]


def check_interval(text: str) -> str:
    """Return `interval:S` as it is; raise ValueError unless S is a number of 0.5 to 5 seconds."""
    if not SHORTEST_S <= float(text.removeprefix(INTERVAL)) <= LONGEST_S:
        raise ValueError(f"commits may be {SHORTEST_S:g} to {LONGEST_S:g} seconds apart")
    return text


class StreamQuery(BaseModel):
    """The parameters of a stream; unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["lossless", "latest"] = "lossless"
    masks: Literal["rle", "png"] = "rle"
    first: Annotated[Number | None, Field(alias="from")] = None
    max_wait_ms: Annotated[float, Field(ge=0, le=60_000)] = 50.0
    stats: bool = False
    durable: Annotated[str, Field(pattern=SECONDS_APART), AfterValidator(check_interval)] | None = (
        None
    )
    ticket: Annotated[str | None, Field(max_length=100)] = None


async def find_streams(request: Request) -> StreamHost:
    """Return the streams of the service that this request reached."""
    streams = request.app.state.streams
    assert isinstance(streams, StreamHost)
    return streams


StreamsOf = Annotated[StreamHost, Depends(find_streams)]


class SocketChannel:
    """A connected WebSocket as a connection's channel."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> Message:
        """See `stream_parts.Channel.receive`."""
        try:
            message = await self._socket.receive()
        except WebSocketDisconnected as error:
            raise Disconnected from error
        if message["type"] == "websocket.disconnect":
            raise Disconnected
        text: str | None = message.get("text")
        data: bytes = message.get("bytes") or b""
        return data if text is None else text

    async def send(self, message: Message) -> None:
        """See `stream_parts.Channel.send`."""
        try:
            if isinstance(message, str):
                await self._socket.send_text(message)
            else:
                await self._socket.send_bytes(message)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise Disconnected from error

    async def close(self, code: int, reason: str) -> None:
        """See `stream_parts.Channel.close`."""
        try:
            await self._socket.close(code, reason)
        except (WebSocketDisconnect, WebSocketDisconnected) as error:
            raise Disconnected from error


@router.post(
    "/{session_id}/tickets",
    status_code=201,
    response_model=None,
    responses={
        201: {"model": TicketOut},
        **document_errors(errors.UnknownSession, errors.ForeignHost, errors.ForeignOrigin),
    },
)
async def issue_ticket(session_id: str, request: Request, streams: StreamsOf) -> Response:
    """Issue a ticket that opens one stream of this session, once and soon."""
    streams.access.check(request.headers, method=request.method)
    peer = request.client.host if request.client else ""
    caller = await streams.callers.identify(request.headers, peer)
    caller.require("write")
    with streams.admission.admit(caller.holder):
        ticket = await streams.tickets.issue(session_id, tenant=caller.tenant)
    headers = {"Cache-Control": "no-store"}
    body = TicketOut(ticket=ticket, expires_in_s=streams.tickets.ttl_s).to_json()
    return Response(body, status_code=201, headers=headers, media_type="application/json")


@router.websocket("/{session_id}/stream")
async def stream(socket: WebSocket, session_id: str) -> None:
    """Frames in, masks out, for as long as the video lasts (docs/stream.md)."""
    streams: StreamHost = socket.app.state.streams
    try:
        streams.access.check_host(socket.headers)
        streams.access.check_origin(socket.headers)
        if wire.SUBPROTOCOL not in socket.scope["subprotocols"]:
            raise errors.BadOption(f"a stream speaks the subprotocol {wire.SUBPROTOCOL}")
        peer = socket.client.host if socket.client else ""
        has_ticket = "ticket" in socket.query_params
        caller = await streams.callers.identify_stream(socket.headers, peer, has_ticket=has_ticket)
        caller.require("write")
    except errors.TamvtError as error:
        status = find_kind(error).status
        body = Problem.model_validate(describe_problem(error)).model_dump_json(exclude_unset=True)
        headers = headers_of(error)
        denial = Response(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)
        await socket.send_denial_response(denial)
        return
    await socket.accept(subprotocol=wire.SUBPROTOCOL)
    request = partial(_request, socket, session_id, caller, streams)
    with (
        open_stream_span(socket.headers) as span,
        bound_contextvars(
            tenant=caller.tenant, session=shorten_session(session_id), trace=trace_id(span)
        ),
    ):
        await streams.serve(SocketChannel(socket), request)


def _request(
    socket: WebSocket, session_id: str, caller: Caller, streams: StreamHost
) -> StreamRequest:
    """Return what the client asks for; BadOption, BadTicket."""
    given = socket.query_params.multi_items()
    check_parameters(given)
    try:
        query = StreamQuery.model_validate(dict(given))
    except ValidationError as error:
        found = (
            f"{'.'.join(map(errors.echo, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise errors.BadOption("; ".join(found)) from error
    if query.ticket is None and streams.access.tickets_required:
        raise errors.BadTicket("a stream needs a ticket here")
    options = ConnectionOptions(
        query.mode,
        query.masks,
        query.first,
        query.max_wait_ms / 1000,
        stats=query.stats,
        durable_s=float(query.durable.removeprefix(INTERVAL)) if query.durable else None,
    )
    return StreamRequest(session_id, options, caller=caller, ticket=query.ticket)
