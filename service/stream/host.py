"""Opens streams and ends them: the gateway's part of a stream's life, whatever its transport."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from structlog.contextvars import bind_contextvars

from service.access.admission import Admission, Reservation
from service.access.callers import Caller, Callers
from service.access.origins import Access
from service.access.tickets import Tickets
from service.errors import BadMessage, BadTicket, Conflict, TamvtError
from service.store.records import Session
from service.store.stream_quota import StreamQuota
from service.stream.close_reasons import (
    GOODBYE,
    RESTART,
    CloseReason,
    Disconnected,
    close_reason_of,
)
from service.stream.connection import Connection
from service.stream.open_streams import OpenStreams
from service.stream.stream_parts import Channel, ConnectionOptions, StreamParts
from service.stream.tasks import end_tasks
from service.telemetry.audit import audit_denial

T = TypeVar("T")
log = logging.getLogger(__name__)
ABNORMAL = 1006  # what RFC 6455 calls a connection that broke


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Which session, how, and for whom."""

    session_id: str
    options: ConnectionOptions
    caller: Caller
    ticket: str | None


class StreamHost:
    """Every stream of this process."""

    def __init__(
        self,
        parts: StreamParts,
        *,
        admission: Admission,
        access: Access,
        callers: Callers,
        open_streams: OpenStreams,
        quota: StreamQuota,
        tickets: Tickets,
    ) -> None:
        self.tickets = tickets
        self.access = access
        self.callers = callers
        self.admission = admission
        self._parts = parts
        self._open_streams = open_streams
        self._quota = quota

    async def drain(self, *, deadline_s: float) -> None:
        """Wait until no stream is open, or the deadline is over; refuse new ones."""
        await self._open_streams.drain(deadline_s=deadline_s)

    async def serve(self, channel: Channel, read_request: Callable[[], StreamRequest]) -> None:
        """Serve one stream from its opening to its close code."""
        began_s = time.monotonic()
        with self._parts.metrics.streams.track_inprogress():
            try:
                close_reason = await self._connect(channel, read_request)
            except TamvtError as error:
                close_reason = close_reason_of(error)
            except Disconnected:
                close_reason = None
            except Exception:
                log.exception("a stream failed")
                close_reason = close_reason_of(
                    TamvtError("an unexpected error; it is in the service's log")
                )
            code = ABNORMAL if close_reason is None else close_reason.code
            self._parts.metrics.streams_closed.labels(str(code)).inc()
            if close_reason is not None and close_reason.problem:
                self._parts.metrics.count_problem(close_reason.problem)
            told = {"code": code, "seconds": round(time.monotonic() - began_s, 1)}
            log.info("stream", extra={"fields": told, "every": True})
            if close_reason is not None:
                # Told as far as the client reads it in time.
                with suppress(TimeoutError, Disconnected):
                    async with asyncio.timeout(self._parts.limits.close_s):
                        if close_reason.last is not None:
                            await channel.send(close_reason.last)
                        await channel.close(close_reason.code, close_reason.reason)

    async def _connect(
        self, channel: Channel, read_request: Callable[[], StreamRequest]
    ) -> CloseReason | None:
        if self._open_streams.draining:
            return CloseReason(RESTART, "the service restarts; connect again", GOODBYE)
        request = read_request()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._open_streams.reserve())
            reservation = stack.enter_context(self.admission.reservation())
            opening = self._open(channel, request, reservation, stack)
            connection = await _before_any_message(channel, opening)
            bind_contextvars(tenant=connection.tenant)  # a ticket's, where there is one
            return await connection.run()

    async def _open(
        self,
        channel: Channel,
        request: StreamRequest,
        reservation: Reservation,
        stack: AsyncExitStack,
    ) -> Connection:
        """Claim the session and return the connection that serves it."""
        tenant = await self._tenant_of(request)
        session_id, tracker = request.session_id, self._parts.tracker
        await tracker.session(session_id, tenant=tenant)  # an unknown one is not claimed
        await stack.enter_async_context(self._quota.reserve(tenant, session_id))
        slot = await stack.enter_async_context(self._open_streams.slot(session_id))
        ownership = self._parts.watch.ownership(session_id)
        await ownership.claim()
        session = await tracker.session(session_id, tenant=tenant)
        tracker.check_model(session)
        check_first(request.options.first, session)
        connection = Connection(
            channel,
            session,
            request.options,
            self._parts,
            reservation=reservation,
            ownership=ownership,
        )
        slot.attach(connection)
        return connection

    async def _tenant_of(self, request: StreamRequest) -> str:
        """Return whose stream it is; raise BadTicket.

        A browser's WebSocket carries no header of ours: its ticket says whose it is.
        """
        caller = request.caller
        if request.ticket is None:
            return caller.tenant
        tenant = await self.tickets.use(request.session_id, request.ticket)
        if tenant is None and not self.callers.are_proved:
            return caller.tenant  # the ticket of an older gateway
        if tenant is None or (caller.name and tenant != caller.tenant):
            audit_denial("a ticket of another tenant", tenant=caller.tenant)
            raise BadTicket("the ticket is unknown, used, expired, or of another session")
        return tenant


def check_first(first: int | None, session: Session) -> None:
    """Raise Conflict unless masks can be replayed from frame `first` (None: no replay)."""
    if first is not None and not session.kept_from <= first <= session.next_frame:
        raise Conflict(
            f"no replay from frame {first}: masks of frames {session.kept_from} to "
            f"{session.newest} are kept, and frame {session.next_frame} comes next",
            expected=session.next_frame,
        )


async def _before_any_message(channel: Channel, opening: Coroutine[Any, Any, T]) -> T:
    """Return what `opening` does; raise BadMessage if the client sends a message before."""
    message = asyncio.create_task(channel.receive())
    opened = asyncio.create_task(opening)
    try:
        await asyncio.wait((message, opened), return_when=asyncio.FIRST_COMPLETED)
        if message.done():
            message.result()  # raises Disconnected
            raise BadMessage("a message before ready")
        return opened.result()
    finally:
        await end_tasks((message, opened))
