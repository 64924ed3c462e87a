"""One stream from `ready` to `bye`: it receives, tracks, sends and watches, all at once.

Four tasks share the flow and the outbox. The first that ends says how the stream ends; the others
are cancelled and waited for. While one clip is in the engine, the next is received and decoded, and
the one before is committed and sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final

from service.access.admission import Reservation
from service.errors import BadMessage, Conflict, Idle, PayloadTooLarge, TamvtError
from service.sessions.clip_commits import CommitPolicy
from service.sessions.clip_pipeline import ClipPipeline, FinishedClip
from service.sessions.frames import Frame
from service.store.records import FrameMasks, Session
from service.stream.close_reasons import (
    GOODBYE,
    NORMAL,
    REPLACED,
    RESTART,
    CloseReason,
    close_reason_of_task,
)
from service.stream.flow import Clip, Flow, PendingFrame, Phase
from service.stream.outbox import Message, Outbox
from service.stream.ownership import Ownership
from service.stream.responses import ReceivedFrame, write_responses
from service.stream.statistics import StreamStatistics
from service.stream.stream_parts import Channel, ConnectionOptions, StreamParts
from service.stream.tasks import end_tasks
from service.telemetry.stage_times import StageTimes
from tamvt_client import wire

CLIPS_PER_LEASE: Final = 8  # then the session's lock is free for others
RATE_POLL_S: Final = 1.0  # a stream that waits for its tenant's rate looks so often if it ends
REPLAYED_AT_ONCE: Final = 50  # frames


class Connection:
    """One stream of one session. `replace` and `drain` end it from outside."""

    def __init__(
        self,
        channel: Channel,
        session: Session,
        options: ConnectionOptions,
        parts: StreamParts,
        *,
        reservation: Reservation,
        ownership: Ownership,
    ) -> None:
        self._channel = channel
        self._session = session
        self._options = options
        self._limits = parts.limits
        self._tracker = parts.tracker
        self._workers = parts.workers
        self._metrics = parts.metrics
        self._watch_ownership = parts.watch
        self._reservation = reservation
        self._ownership = ownership
        self._outbox = Outbox(channel.send, stall_s=parts.limits.stall_s)
        self._awake = asyncio.Event()  # something for the tracking task to look at
        self._decoding: dict[float, asyncio.Future[tuple[Frame, StageTimes]]] = {}  # by received_s
        self._taken = asyncio.Event()  # frames that were sent again
        self._session_wanted = False  # by somebody else, while the pipeline has it
        # Whole clips are sent again.
        least = session.clip_length if options.durable_s is not None else 1
        self._credits = max(parts.limits.credits, least)
        self._begun = False
        self._statistics = StreamStatistics(time.perf_counter())
        self._active_s = time.monotonic()
        self._flow = Flow(
            mode=options.mode,
            clip_length=session.clip_length,
            credits=self._credits,
            next_frame=session.next_frame,
            max_wait_s=options.max_wait_s,
        )

    @property
    def tenant(self) -> str:
        """Whose session it is."""
        return self._session.tenant

    def replace(self) -> None:
        """End the stream once the clips under way are committed: another one took over."""
        self._enter(Phase.STOPPED)

    def drain(self) -> None:
        """Say `bye`; whole clips that have come are still processed."""
        if self._flow.phase in (Phase.OPEN, Phase.ENDED):
            self._enter(Phase.DRAINING)
            if self._begun:
                self._outbox.put(GOODBYE)

    async def run(self) -> CloseReason | None:
        """Serve the stream to its end and return how it ended; None if the client disconnected."""
        credits = self._credits if self._options.mode == "lossless" else None
        self._outbox.put(wire.write_ready(next_frame=self._flow.next_frame, credits=credits))
        self._begun = True
        if self._flow.phase is Phase.DRAINING:
            self._outbox.put(GOODBYE)
        parts: tuple[Coroutine[Any, Any, CloseReason], ...] = (
            self._track(),
            self._receive(),
            self._watch(),
            self._outbox.deliver(),
            *([self._statistics.tell(self._outbox, self._flow)] if self._options.stats else []),
        )
        tasks = [asyncio.create_task(part) for part in parts]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in tasks if task.done()]
            await end_tasks(tasks)
            for decoding in self._decoding.values():
                decoding.cancel()
            await asyncio.gather(*self._decoding.values(), return_exceptions=True)
        close_reason, *_ = [close_reason_of_task(task) for task in ended]
        if close_reason is not None and close_reason.flush:
            await self._outbox.flush(deadline_s=self._limits.close_s)
        return close_reason

    # What comes in

    async def _receive(self) -> CloseReason:
        while True:
            message = await self._channel.receive()
            self._active_s = time.monotonic()
            if self._flow.phase in (Phase.DRAINING, Phase.STOPPED):
                continue  # `bye` is on its way: what comes now is sent again elsewhere
            try:
                understood = wire.read_client_message(message)
            except wire.WireError as error:
                raise BadMessage(str(error)) from error
            match understood:
                case wire.ImageMessage() as image:
                    await self._wait_for_resent(image)
                    self._add_frame(image)
                case wire.Ack(frame):
                    if frame >= self._flow.next_frame:
                        raise BadMessage(f"an ack of frame {frame}, which was not answered yet")
                case wire.End():
                    if self._flow.phase is Phase.ENDED:
                        raise BadMessage("a second end")
                    self._enter(Phase.ENDED)

    async def _wait_for_resent(self, message: wire.ImageMessage) -> None:
        """Wait, in latest mode, until few frames wait that are sent again: none is passed over."""
        if not message.flags:
            return
        if self._options.durable_s is None:
            raise BadMessage("flags are 0 on a stream without durable=interval:S")
        while self._options.mode == "latest" and self._flow.resent >= self._credits:
            self._taken.clear()
            await self._taken.wait()

    def _add_frame(self, message: wire.ImageMessage) -> None:
        frame = PendingFrame(
            message.number,
            message.timestamp_us,
            message.image,
            time.perf_counter(),
            resent=bool(message.flags & wire.RESENT),
            ends_clip=bool(message.flags & wire.CLIP_END),
        )
        if len(frame.image) > self._limits.frame_bytes:
            limit = self._limits.frame_bytes
            raise PayloadTooLarge(
                f"a frame may have {limit} bytes: compress it more, or raise TAMVT_MAX_FRAME_BYTES",
                limit=limit,
            )
        displaced = self._flow.add(frame)
        self._reservation.give(sum(len(item.image) for item in displaced))
        self._reservation.take(len(frame.image))
        if self._options.mode == "lossless":
            self._decode(frame)
        self._awake.set()

    def _enter(self, phase: Phase) -> None:
        self._flow.phase = phase
        self._awake.set()

    # What is tracked

    async def _track(self) -> CloseReason:
        # Stored masks first, as fast as the client reads them.
        session, first = self._session, self._options.first
        while first is not None and first < session.next_frame:
            await self._outbox.wait_until_writable()
            wanted = {"first": first, "last": session.next_frame - 1, "most": REPLAYED_AT_ONCE}
            page = await self._tracker.masks(session.session_id, tenant=session.tenant, **wanted)
            messages = await self._write(page.frames, page.session, {})
            self._outbox.put(*messages)
            first += len(page.frames)
        await self._keep_to_rates(0)
        while (clip := await self._next_clip()) is not None:
            await self._run_pipeline(clip)
        if self._flow.phase is Phase.ENDED:
            return CloseReason(NORMAL, "end", wire.write_bye(reason="end", resume=False))
        if self._flow.phase is Phase.DRAINING:
            return CloseReason(RESTART, "the service restarts; connect again")
        return CloseReason(REPLACED, "replaced", wire.write_bye(reason="replaced", resume=False))

    async def _keep_to_rates(self, count: int) -> None:
        """Count frames of the tenant, and wait until it may have more tracked, or the stream ends.

        A stream that is too fast is slowed down: no credit comes back, or the newest frame waits.
        """
        while wait_s := await self._tracker.count_frames(self._session.tenant, count):
            if self._session_wanted or self._flow.phase not in (Phase.OPEN, Phase.ENDED):
                return
            count = 0
            await asyncio.sleep(min(wait_s, RATE_POLL_S))

    async def _next_clip(self) -> Clip | None:
        """Wait until a clip is due and return it; None once there will be no other.

        None also where the session is wanted, and no clip is due.
        """
        while True:
            await self._outbox.wait_until_writable()
            self._awake.clear()
            clip = self._flow.take(time.perf_counter())
            if clip is not None or self._flow.finished or self._session_wanted:
                return clip
            due_s = self._flow.due_s()
            wait_s = None if due_s is None else max(0.0, due_s - time.perf_counter())
            try:
                async with asyncio.timeout(wait_s):
                    await self._awake.wait()
            except TimeoutError:
                continue

    async def _run_pipeline(self, first: Clip) -> None:
        """Track this clip and those that follow at once, and wait for the tenant's rates.

        They are up to `CLIPS_PER_LEASE`, or those until it is time to commit what is answered.
        """
        if not await self._ownership.is_mine():
            self._enter(Phase.STOPPED)
            return
        if self._options.durable_s is not None:
            await self._commit_later(first, every_s=self._options.durable_s)
            await self._keep_to_rates(0)
            return
        session = self._session
        async with self._tracker.pipeline(session.session_id, tenant=session.tenant) as pipeline:
            clip: Clip | None = first
            # Where frames are limited, the tenant may have to wait after each clip.
            left = 1 if self._tracker.limits_rates else CLIPS_PER_LEASE
            while clip is not None:
                await self._add_clip(pipeline, clip)
                left -= 1
                more = left and self._outbox.is_writable
                clip = self._flow.take(time.perf_counter()) if more else None
        await self._keep_to_rates(len(first))

    async def _commit_later(self, first: Clip, *, every_s: float) -> None:
        """Answer this clip and those of the next seconds, and commit them together (decision 82).

        At once where somebody else wants the session, or the stream ends.
        """
        due_s = time.monotonic() + every_s
        opening = self._tracker.pipeline(
            self._session.session_id,
            tenant=self._session.tenant,
            policy=CommitPolicy.AT_THE_END,
            owner=self._ownership.token,
            on_wanted=self._give_way,
        )
        try:
            async with opening as pipeline:
                clip: Clip | None = first
                while clip is not None:
                    await self._add_clip(pipeline, clip)
                    await self._tracker.count_frames(self._session.tenant, len(clip))
                    clip = None if pipeline.is_full else await self._next_clip_before(due_s)
        except Conflict:
            if await self._ownership.is_mine():
                raise
            self._enter(Phase.STOPPED)  # the stream that took over is sent the frames again
        else:
            self._outbox.put(wire.write_durable(pipeline.session.newest))
        finally:
            self._session_wanted = False

    async def _add_clip(self, pipeline: ClipPipeline, clip: Clip) -> None:
        decoded: list[tuple[Frame, StageTimes]] = []
        for pending in clip:
            if pending.received_s not in self._decoding:
                self._decode(pending)
            decoded.append(await self._decoding.pop(pending.received_s))
        self._taken.set()
        await pipeline.add_frames(
            [frame for frame, _ in decoded],
            first_frame=clip[0].number,
            skipping=self._options.mode == "latest",
            on_finish=partial(self._answer, clip, [times for _, times in decoded]),
        )

    async def _next_clip_before(self, due_s: float) -> Clip | None:
        """Return the next clip as `_next_clip` does; None from `due_s` on (of time.monotonic)."""
        wait_s = due_s - time.monotonic()
        if self._session_wanted or wait_s <= 0 or not self._outbox.is_writable:
            return None
        try:
            async with asyncio.timeout(wait_s):
                await self._keep_to_rates(0)
                return await self._next_clip()
        except TimeoutError:
            return None

    def _give_way(self) -> None:
        """Commit soon: somebody else wants the session."""
        self._session_wanted = True
        self._awake.set()

    async def _answer(
        self, clip: Clip, times: Sequence[StageTimes], finished: FinishedClip
    ) -> None:
        """Put the answers for a clip into the outbox, and count it."""
        received: dict[int, ReceivedFrame] = {}
        for frame, stages in zip(clip, times, strict=True):
            stages.extend(finished.times)
            received[frame.number] = ReceivedFrame(frame.timestamp_us, stages)
        messages = await self._write(finished.frames, finished.session, received)
        self._outbox.put(*messages)
        self._statistics.answered(
            [frame.received_s for frame in clip],
            time.perf_counter(),
            dropped=sum(frame.dropped for frame in finished.frames),
        )
        self._flow.answered(list(received))
        self._reservation.give(sum(len(frame.image) for frame in clip))
        self._active_s = time.monotonic()
        self._metrics.count_frames(
            finished.frames,
            finished.session,
            replayed=finished.replayed,
            clips=int(finished.replayed < len(finished.frames)),
            times=times[-1],
        )

    async def _write(
        self, frames: Sequence[FrameMasks], session: Session, received: Mapping[int, ReceivedFrame]
    ) -> list[Message]:
        """Write the answers for these frames on a worker; `session` is as it is committed."""
        durable = session.newest if self._options.durable_s is not None else None
        return await self._workers.start(
            write_responses, frames, session, received, masks=self._options.masks, durable=durable
        )

    # Pixels

    def _decode(self, frame: PendingFrame) -> None:
        """Begin to decode the frame on a worker."""

        def read() -> tuple[Frame, StageTimes]:
            times = StageTimes(began_s=frame.received_s)
            times.end("receive")
            decoded = self._tracker.read_frame(self._session, frame.image, number=frame.number)
            times.end("decode")
            return decoded, times

        def hurry_if_failed(decoding: asyncio.Future[tuple[Frame, StageTimes]]) -> None:
            # The clip is due if its image cannot be used: the client is told at once.
            if not decoding.cancelled() and decoding.exception() is not None:
                self._flow.hurry()
                self._awake.set()

        decoding = self._workers.start(read)
        decoding.add_done_callback(hurry_if_failed)
        self._decoding[frame.received_s] = decoding

    # What else may happen

    async def _watch(self) -> CloseReason:
        """End the stream when it idles, or when a stream elsewhere took the session over."""
        while True:
            try:
                is_mine = await self._watch_ownership.look(self._ownership)
            except TamvtError:
                if self._flow.phase is Phase.OPEN:
                    raise
                is_mine = True  # the stream ends anyway: its owner does not matter
            if time.monotonic() - self._active_s > self._limits.idle_s:
                raise Idle(f"no message for {self._limits.idle_s:g} s")
            if self._flow.phase is Phase.OPEN and not is_mine:
                self._enter(Phase.STOPPED)
