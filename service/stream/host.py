"""Opens streams and ends them: the gateway's part of a stream's life, whatever its transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from service.access.admission import Admission, Reservation
from service.access.origins import Access
from service.access.tickets import Tickets
from service.errors import BadMessage, TamvtError
from service.server.workers import Workers
from service.sessions.tracking import Tracker
from service.store.session_store import SessionStore
from service.stream.connection import (
    GOODBYE,
    RESTART,
    Channel,
    CloseReason,
    Connection,
    ConnectionOptions,
    Disconnected,
    StreamLimits,
    check_first,
    close_reason_of,
)
from service.stream.open_streams import OpenStreams
from service.stream.ownership import Ownership, OwnershipWatch
from service.stream.tasks import end_tasks
from service.telemetry.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger(__name__)
ABNORMAL = 1006  # what RFC 6455 calls a connection that broke


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Which session, how, and for whom."""

    session_id: str
    options: ConnectionOptions
    tenant: str
    ticket: str | None


class StreamHost:
    """Every stream of this process."""

    def __init__(
        self,
        *,
        tracker: Tracker,
        store: SessionStore,
        workers: Workers,
        admission: Admission,
        metrics: Metrics,
        access: Access,
        open_streams: OpenStreams,
        tickets: Tickets,
        watch: OwnershipWatch,
        limits: StreamLimits,
    ) -> None:
        self.tickets = tickets
        self.access = access
        self._tracker = tracker
        self._store = store
        self._workers = workers
        self._admission = admission
        self._metrics = metrics
        self._open_streams = open_streams
        self._watch_ownership = watch
        self._limits = limits

    async def drain(self, *, deadline_s: float) -> None:
        """No stream is open any more, or the deadline is over; new ones are sent elsewhere."""
        await self._open_streams.drain(deadline_s=deadline_s)

    async def serve(self, channel: Channel, read_request: Callable[[], StreamRequest]) -> None:
        """Carries one stream from its opening to its close code."""
        with self._metrics.streams.track_inprogress():
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
            self._metrics.streams_closed.labels(str(code)).inc()
            if close_reason is not None:
                await self._close(channel, close_reason)

    async def _connect(
        self, channel: Channel, read_request: Callable[[], StreamRequest]
    ) -> CloseReason | None:
        if self._open_streams.draining:
            return CloseReason(RESTART, "the service restarts; connect again", GOODBYE)
        request = read_request()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._open_streams.place(request.tenant))
            reservation = stack.enter_context(self._admission.reservation())
            opening = self._open(channel, request, reservation, stack)
            connection = await _before_any_message(channel, opening)
            return await connection.run()

    async def _open(
        self,
        channel: Channel,
        request: StreamRequest,
        reservation: Reservation,
        stack: AsyncExitStack,
    ) -> Connection:
        """The conversation, once the session belongs to it."""
        if request.ticket is not None:
            await self.tickets.use(request.session_id, request.ticket)
        await self._tracker.session(request.session_id)  # an unknown one is claimed by nobody
        slot = await stack.enter_async_context(self._open_streams.slot(request.session_id))
        ownership = Ownership(self._store, request.session_id)
        await ownership.claim()
        session = await self._tracker.session(request.session_id)
        check_first(request.options.first, session)
        connection = Connection(
            channel,
            session,
            request.options,
            limits=self._limits,
            tracker=self._tracker,
            workers=self._workers,
            metrics=self._metrics,
            reservation=reservation,
            ownership=ownership,
            watch=self._watch_ownership,
        )
        slot.attach(connection)
        return connection

    async def _close(self, channel: Channel, close_reason: CloseReason) -> None:
        """Says the last words and the close code, as far as the client reads them in time."""
        try:
            async with asyncio.timeout(self._limits.close_s):
                if close_reason.last is not None:
                    await channel.send(close_reason.last)
                await channel.close(close_reason.code, close_reason.reason)
        except (TimeoutError, Disconnected):
            return


async def _before_any_message(channel: Channel, opening: Coroutine[Any, Any, T]) -> T:
    """What the opening gives; BadMessage if the client speaks before it is ready."""
    hearing = asyncio.create_task(channel.receive())
    opened = asyncio.create_task(opening)
    try:
        await asyncio.wait((hearing, opened), return_when=asyncio.FIRST_COMPLETED)
        if hearing.done():
            hearing.result()  # Gone
            raise BadMessage("a message before ready")
        return opened.result()
    finally:
        await end_tasks((hearing, opened))
