"""Opens streams and ends them: the gateway's part of a stream's life, whatever its transport."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from service.access.admission import Admission, Hold
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
    Choice,
    Conversation,
    Farewell,
    Gone,
    StreamLimits,
    check_first,
    farewell_of,
)
from service.stream.open_streams import Registry
from service.stream.ownership import Lookout, Ownership
from service.stream.tasks import end_tasks
from service.telemetry.metrics import Metrics

T = TypeVar("T")
log = logging.getLogger(__name__)
ABNORMAL = 1006  # what RFC 6455 calls a connection that broke


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """Which session, how, and for whom."""

    session_id: str
    choice: Choice
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
        registry: Registry,
        tickets: Tickets,
        lookout: Lookout,
        limits: StreamLimits,
    ) -> None:
        self.tickets = tickets
        self.access = access
        self._tracker = tracker
        self._store = store
        self._workers = workers
        self._admission = admission
        self._metrics = metrics
        self._registry = registry
        self._lookout = lookout
        self._limits = limits

    async def drain(self, *, deadline_s: float) -> None:
        """No stream is open any more, or the deadline is over; new ones are sent elsewhere."""
        await self._registry.drain(deadline_s=deadline_s)

    async def serve(self, channel: Channel, read_request: Callable[[], StreamRequest]) -> None:
        """Carries one stream from its opening to its close code."""
        with self._metrics.streams.track_inprogress():
            try:
                farewell = await self._conversation(channel, read_request)
            except TamvtError as error:
                farewell = farewell_of(error)
            except Gone:
                farewell = None
            except Exception:
                log.exception("a stream failed")
                farewell = farewell_of(
                    TamvtError("an unexpected error; it is in the service's log")
                )
            code = ABNORMAL if farewell is None else farewell.code
            self._metrics.streams_closed.labels(str(code)).inc()
            if farewell is not None:
                await self._close(channel, farewell)

    async def _conversation(
        self, channel: Channel, read_request: Callable[[], StreamRequest]
    ) -> Farewell | None:
        if self._registry.draining:
            return Farewell(RESTART, "the service restarts; connect again", GOODBYE)
        request = read_request()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._registry.place(request.tenant))
            hold = stack.enter_context(self._admission.hold())
            opening = self._open(channel, request, hold, stack)
            conversation = await _before_any_message(channel, opening)
            return await conversation.run()

    async def _open(
        self, channel: Channel, request: StreamRequest, hold: Hold, stack: AsyncExitStack
    ) -> Conversation:
        """The conversation, once the session belongs to it."""
        if request.ticket is not None:
            await self.tickets.use(request.session_id, request.ticket)
        await self._tracker.session(request.session_id)  # an unknown one is claimed by nobody
        seat = await stack.enter_async_context(self._registry.seat(request.session_id))
        ownership = Ownership(self._store, request.session_id)
        await ownership.claim()
        session = await self._tracker.session(request.session_id)
        check_first(request.choice.first, session)
        conversation = Conversation(
            channel,
            session,
            request.choice,
            limits=self._limits,
            tracker=self._tracker,
            workers=self._workers,
            metrics=self._metrics,
            hold=hold,
            ownership=ownership,
            lookout=self._lookout,
        )
        seat.attach(conversation)
        return conversation

    async def _close(self, channel: Channel, farewell: Farewell) -> None:
        """Says the last words and the close code, as far as the client reads them in time."""
        try:
            async with asyncio.timeout(self._limits.close_s):
                if farewell.last is not None:
                    await channel.send(farewell.last)
                await channel.close(farewell.code, farewell.reason)
        except (TimeoutError, Gone):
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
