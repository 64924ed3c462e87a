"""One stream from `ready` to `bye`: it receives, tracks, sends and watches, all at once.

Four tasks share the flow and the outbox. The first that ends says how the stream ends; the others
are cancelled and waited for. While one clip is in the engine the next is received and decoded, and
the one before is committed and sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from service.access.admission import Reservation
from service.errors import BadMessage, Conflict, Idle, PayloadTooLarge, TamvtError
from service.problems import kind_of, problem
from service.server.workers import Workers
from service.sessions.clip_pipeline import ClipPipeline, Tracked
from service.sessions.frames import Frame
from service.sessions.tracking import Tracker
from service.store.records import Session
from service.stream.flow import Clip, Flow, Mode, PendingFrame, Phase
from service.stream.outbox import Message, Outbox, SlowReader
from service.stream.ownership import Ownership, OwnershipWatch
from service.stream.responses import Known, Sent, Written, write_responses
from service.stream.tasks import end_tasks
from service.telemetry.metrics import Metrics
from tamvt_client import wire

CLIPS_PER_LEASE: Final = 8  # then others on the same session have their turn
REPLAYED_AT_ONCE: Final = 50  # frames
MAX_REASON: Final = 120  # bytes of a close frame's text

GOODBYE: Final = wire.write_bye(reason="shutdown", resume=True)
NORMAL, INTERNAL, RESTART, TRY_LATER = 1000, 1011, 1012, 1013
REPLACED, REFUSED = 4001, 4000  # a refusal closes with 4000 and its HTTP status


class Disconnected(Exception):
    """The client is no longer there."""


class Channel(Protocol):
    """The connection: messages in and out."""

    async def receive(self) -> Message:
        """The next message; Gone."""
        ...

    async def send(self, message: Message) -> None:
        """Nothing, once the message is on its way; waits while the client does not read. Gone."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Says why the connection is closed."""
        ...


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """What the client asked for when it connected."""

    mode: Mode = "lossless"
    masks: Written = "rle"
    first: int | None = None  # masks from this frame on are replayed
    max_wait_s: float = 0.05


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What one stream may have, in frames and seconds."""

    credits: int
    frame_bytes: int
    stall_s: float  # for the client to read one message
    idle_s: float  # without a message
    close_s: float = 5.0  # to send what is left, and to say goodbye


@dataclass(frozen=True, slots=True)
class CloseReason:
    """How a stream ends: its last words, if any, and its close code. `flush`: what waits is sent
    before.
    """

    code: int
    reason: str
    last: Message | None = None
    flush: bool = True


class Connection:
    """One stream of one session. `replace` and `drain` end it from outside."""

    def __init__(
        self,
        channel: Channel,
        session: Session,
        options: ConnectionOptions,
        *,
        limits: StreamLimits,
        tracker: Tracker,
        workers: Workers,
        metrics: Metrics,
        reservation: Reservation,
        ownership: Ownership,
        watch: OwnershipWatch,
    ) -> None:
        self._channel = channel
        self._session = session
        self._options = options
        self._limits = limits
        self._tracker = tracker
        self._workers = workers
        self._metrics = metrics
        self._reservation = reservation
        self._ownership = ownership
        self._watch_ownership = watch
        self._outbox = Outbox(channel.send, stall_s=limits.stall_s)
        self._awake = asyncio.Event()  # something for the tracking task to look at
        self._decoding: dict[float, asyncio.Future[tuple[Frame, Sent]]] = {}  # by received_s
        self._begun = False
        self._active_s = time.monotonic()
        self._flow = Flow(
            mode=options.mode,
            clip_length=session.clip_length,
            credits=limits.credits,
            next_frame=session.next_frame,
            max_wait_s=options.max_wait_s,
        )

    def replace(self) -> None:
        """Ends the stream once the clips under way are committed: another one took over."""
        self._turn(Phase.STOPPED)

    def drain(self) -> None:
        """Says goodbye; whole clips that are here are still processed."""
        if self._flow.phase in (Phase.OPEN, Phase.ENDED):
            self._turn(Phase.DRAINING)
            if self._begun:
                self._outbox.put(GOODBYE)

    async def run(self) -> CloseReason | None:
        """How the stream ended, once nothing of it is under way; None if the client has gone."""
        credits = self._limits.credits if self._options.mode == "lossless" else None
        self._outbox.put(wire.write_ready(next_frame=self._flow.next_frame, credits=credits))
        self._begun = True
        if self._flow.phase is Phase.DRAINING:
            self._outbox.put(GOODBYE)
        parts: tuple[Coroutine[Any, Any, CloseReason], ...] = (
            self._track(),
            self._receive(),
            self._watch(),
            self._deliver(),
        )
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in tasks if task.done()]
            await end_tasks(tasks)
            await self._forget_decoding()
        close_reason, *_ = [_close_reason_of_task(task) for task in ended]
        if close_reason is not None and close_reason.flush:
            await self._flush()
        return close_reason

    async def _flush(self) -> None:
        """Sends what is left, as far as the client reads it in time."""
        sending = asyncio.create_task(self._outbox.deliver())
        emptied = asyncio.create_task(self._outbox.empty())
        await asyncio.wait(
            (sending, emptied),
            timeout=self._limits.close_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        await end_tasks((sending, emptied))

    # What comes in

    async def _receive(self) -> CloseReason:
        while True:
            message = await self._channel.receive()
            self._active_s = time.monotonic()
            if self._flow.phase in (Phase.DRAINING, Phase.STOPPED):
                continue  # goodbye is on its way: what comes now is sent again elsewhere
            match wire.read_client_message(message):
                case wire.Picture() as picture:
                    self._arrive(picture)
                case wire.Ack(frame):
                    self._acknowledge(frame)
                case wire.End():
                    self._end()

    def _arrive(self, picture: wire.Picture) -> None:
        frame = PendingFrame(
            picture.number, picture.timestamp_us, picture.image, time.perf_counter()
        )
        if len(frame.image) > self._limits.frame_bytes:
            limit = self._limits.frame_bytes
            raise PayloadTooLarge(f"a frame may have {limit} bytes", limit=limit)
        displaced = self._flow.arrive(frame)
        self._reservation.give(sum(len(item.image) for item in displaced))
        self._reservation.take(len(frame.image))
        if self._options.mode == "lossless":
            self._decode(frame)
        self._awake.set()

    def _acknowledge(self, frame: int) -> None:
        if frame >= self._flow.next_frame:
            raise BadMessage(f"an ack of frame {frame}, which was not answered yet")

    def _end(self) -> None:
        if self._flow.phase is Phase.ENDED:
            raise BadMessage("a second end")
        self._turn(Phase.ENDED)

    def _turn(self, phase: Phase) -> None:
        self._flow.phase = phase
        self._awake.set()

    # What is tracked

    async def _track(self) -> CloseReason:
        await self._replay()
        while (clip := await self._next_clip()) is not None:
            await self._run_pipeline(clip)
        if self._flow.phase is Phase.ENDED:
            return CloseReason(NORMAL, "end", wire.write_bye(reason="end", resume=False))
        if self._flow.phase is Phase.DRAINING:
            return CloseReason(RESTART, "the service restarts; connect again")
        return CloseReason(REPLACED, "replaced", wire.write_bye(reason="replaced", resume=False))

    async def _next_clip(self) -> Clip | None:
        """The clip that is due, waited for; None once there will be no other."""
        while True:
            await self._outbox.wait_until_writable()
            self._awake.clear()
            clip = self._flow.take(time.perf_counter())
            if clip is not None or self._flow.finished:
                return clip
            due_s = self._flow.due_s()
            wait_s = None if due_s is None else max(0.0, due_s - time.perf_counter())
            try:
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _run_pipeline(self, first: Clip) -> None:
        if not await self._ownership.is_mine():
            self._turn(Phase.STOPPED)
            return
        async with self._tracker.pipeline(self._session.session_id) as pipeline:
            clip: Clip | None = first
            left = CLIPS_PER_LEASE
            while clip is not None:
                await self._add(pipeline, clip)
                left -= 1
                more = left and self._outbox.is_writable
                clip = self._flow.take(time.perf_counter()) if more else None

    async def _add(self, pipeline: ClipPipeline, clip: Clip) -> None:
        decoded = [await self._decoded(frame) for frame in clip]
        await pipeline.add(
            [frame for frame, _ in decoded],
            first_frame=clip[0].number,
            skipping=self._options.mode == "latest",
            then=partial(self._tell, clip, [sent for _, sent in decoded]),
        )

    async def _tell(self, clip: Clip, sent: list[Sent], tracked: Tracked) -> None:
        """Puts the answers for a committed clip into the outbox."""
        numbers = [frame.number for frame in clip]
        known = Known(dict(zip(numbers, sent, strict=True)), tracked.times)
        messages = await self._workers.start(
            write_responses, tracked.frames, tracked.session, known, masks=self._options.masks
        )
        self._outbox.put(*messages)
        self._flow.answered(numbers)
        self._reservation.give(sum(len(frame.image) for frame in clip))
        self._active_s = time.monotonic()
        self._count(tracked)

    def _count(self, tracked: Tracked) -> None:
        fresh = tracked.frames[tracked.replayed :]
        dropped = sum(masks.dropped for masks in fresh)
        self._metrics.replayed.inc(tracked.replayed)
        self._metrics.dropped.inc(dropped)
        self._metrics.frames.inc(len(fresh) - dropped)
        self._metrics.clips.inc(bool(fresh))
        if tracked.times.batch_size:
            self._metrics.batch_size.observe(tracked.times.batch_size)

    async def _replay(self) -> None:
        """Puts stored masks into the outbox as fast as the client reads them."""
        first, end = self._options.first, self._session.next_frame
        while first is not None and first < end:
            await self._outbox.wait_until_writable()
            page = await self._tracker.masks(
                self._session.session_id, first=first, last=end - 1, most=REPLAYED_AT_ONCE
            )
            messages = await self._workers.start(
                write_responses, page.frames, page.session, Known(), masks=self._options.masks
            )
            self._outbox.put(*messages)
            first += len(page.frames)

    # Pixels

    def _decode(self, frame: PendingFrame) -> None:
        decoding = self._workers.start(self._read, frame)
        decoding.add_done_callback(self._hurry_after)
        self._decoding[frame.received_s] = decoding

    def _hurry_after(self, decoding: asyncio.Future[tuple[Frame, Sent]]) -> None:
        """An image that cannot be used is told at once, not when its clip is whole."""
        if not decoding.cancelled() and decoding.exception() is not None:
            self._flow.hurry()
            self._awake.set()

    def _read(self, frame: PendingFrame) -> tuple[Frame, Sent]:
        """The decoded frame; runs on a worker."""
        begun_s = time.perf_counter()
        decoded = self._tracker.read_frame(self._session, frame.image, number=frame.number)
        sent = Sent(frame.timestamp_us, frame.received_s, begun_s, time.perf_counter())
        return decoded, sent

    async def _decoded(self, frame: PendingFrame) -> tuple[Frame, Sent]:
        if frame.received_s not in self._decoding:
            self._decode(frame)
        return await self._decoding.pop(frame.received_s)

    async def _forget_decoding(self) -> None:
        for future in self._decoding.values():
            future.cancel()
        await asyncio.gather(*self._decoding.values(), return_exceptions=True)

    # What goes out, and what else may happen

    async def _deliver(self) -> CloseReason:
        try:
            await self._outbox.deliver()
        except SlowReader:
            return CloseReason(TRY_LATER, "messages were not read in time", flush=False)

    async def _watch(self) -> CloseReason:
        """Notices that nothing happens, or that a stream elsewhere took the session over."""
        while True:
            is_mine = await self._look()
            if time.monotonic() - self._active_s > self._limits.idle_s:
                raise Idle(f"no message for {self._limits.idle_s:g} s")
            if self._flow.phase is Phase.OPEN and not is_mine:
                self._turn(Phase.STOPPED)

    async def _look(self) -> bool:
        """Whether the session is still this stream's; one that ends anyway needs not know."""
        try:
            return await self._watch_ownership.look(self._ownership)
        except TamvtError:
            if self._flow.phase is Phase.OPEN:
                raise
            return True


def check_first(first: int | None, session: Session) -> None:
    """Nothing, or Conflict: masks can be replayed from what is kept, up to the frame to come."""
    if first is not None and not session.kept_from <= first <= session.next_frame:
        raise Conflict(
            f"no replay from frame {first}: masks of frames {session.kept_from} to "
            f"{session.newest} are kept, and frame {session.next_frame} comes next",
            expected=session.next_frame,
        )


def close_reason_of(error: TamvtError) -> CloseReason:
    """An error, told to the client, and the close code of its status."""
    status = kind_of(error).status
    code = {500: INTERNAL, 503: TRY_LATER}.get(status, REFUSED + status)
    reason = str(error).encode()[:MAX_REASON].decode(errors="ignore")
    return CloseReason(code, reason, wire.write_error(problem(error)))


def _close_reason_of_task(task: asyncio.Task[CloseReason]) -> CloseReason | None:
    """What the first task that ended came to."""
    try:
        return task.result()
    except Disconnected:
        return None
    except TamvtError as error:
        return close_reason_of(error)
