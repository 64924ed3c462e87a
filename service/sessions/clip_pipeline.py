"""The clip pipeline: while one clip is in the engine, the one before is encoded and committed.

REST appends and streams use the same pipeline. They differ in the commit policy: an append commits
all its clips at once, a stream each clip as it is done, or several that are answered already.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from opentelemetry.trace import Span

from model.core.contract import ModelSpec
from service.engines.base import BankLease
from service.engines.pool import serving
from service.errors import Conflict, FrameAhead, FrameChanged, TamvtError
from service.sessions.backend import SessionBackend
from service.sessions.clip_commits import (
    CommitPolicy,
    PackedClip,
    advance_session,
    keep_needed,
    pack_clip,
)
from service.sessions.clips import (
    EncodedClip,
    Outcome,
    Step,
    clip_pixels,
    conclude,
    encode_clip,
    plan,
)
from service.sessions.frames import Frame
from service.store.commits import count_needed_bytes, seal_masks
from service.store.records import FrameMasks, Session, entry_field, name_state_field
from service.store.session_store import SessionStore
from service.telemetry.stage_times import Stage, StageTimes
from service.telemetry.tracing import begin_clip, end_clip, within

log = logging.getLogger(__name__)

# Clips that are answered and not committed: beyond this it is time to commit them.
MOST_UNCOMMITTED: Final = 1000  # frames
MOST_UNCOMMITTED_BYTES: Final = 4_000_000  # of masks


@dataclass(frozen=True, slots=True)
class FinishedClip:
    """A clip to be answered. `frames` are in order, those passed over before it included.

    It is committed, unless the policy is `AT_THE_END`.
    """

    session: Session  # as it is committed
    frames: tuple[FrameMasks, ...]
    replayed: int  # of these, so many were committed before
    times: StageTimes  # from its pixels on; empty if all of it was committed before


OnFinish = Callable[[FinishedClip], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Segmented:
    """A clip that is not answered yet."""

    outcome: Outcome
    encoding: asyncio.Future[EncodedClip]
    times: StageTimes
    known: tuple[FrameMasks, ...]
    on_finish: OnFinish
    span: Span


@asynccontextmanager
async def open_pipeline(
    session: Session, backend: SessionBackend, *, policy: CommitPolicy, owner: str = ""
) -> AsyncIterator[ClipPipeline]:
    """Yield the session's pipeline, with its bank; the caller holds the session's lock.

    When the block is left, what is segmented is committed. When it raises, commits under way are
    still waited for, and no other is begun but that of clips which are answered. Where the session
    belongs to a stream, nothing is committed for another `owner`.
    """
    engine = backend.engine(session.model)
    with serving(session.tenant):
        async with engine.lease(
            session.session_id,
            version=session.version,
            memory=session.memory,
            model_size=session.model_size,
            pictures=partial(backend.pictures, session),
            state=backend.find_state_source(session),
        ) as bank:
            pipeline = ClipPipeline(
                session, bank, backend, spec=engine.spec, policy=policy, owner=owner
            )
            try:
                yield pipeline
                await pipeline.commit()
            finally:
                await pipeline.close()
            bank.commit(pipeline.session.version)


class ClipPipeline:
    """Segments clips of one session in order; see `open_pipeline`."""

    def __init__(
        self,
        session: Session,
        bank: BankLease,
        backend: SessionBackend,
        *,
        spec: ModelSpec,
        policy: CommitPolicy,
        owner: str,
    ) -> None:
        self.session = session  # as it is committed
        self._bank = bank
        self._backend = backend
        self._spec = spec
        self._policy = policy
        self._owner = owner
        self._memory, self._next_frame = session.memory, session.next_frame  # after what is added
        self._segmented: list[_Segmented] = []  # not answered yet
        self._answered: list[PackedClip] = []  # and not committed
        self._answered_bytes = 0
        self._finishing: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the pipeline is to end before anything else is segmented.

        Too much is answered and not committed, or others may lack the room of its bank.
        """
        if self._backend.engine(self.session.model).lacks_banks:
            return True
        frames = self._answered[-1].last - self.session.newest if self._answered else 0
        return frames >= MOST_UNCOMMITTED or self._answered_bytes >= MOST_UNCOMMITTED_BYTES

    async def add_frames(
        self,
        frames: Sequence[Frame],
        *,
        first_frame: int,
        skipping: bool,
        on_finish: OnFinish,
    ) -> None:
        """Segment the frames of one clip, of which some may be committed already.

        Committed frames are answered from the store. `skipping` allows to leave frames out before
        the clip; they are committed as dropped.

        Raises:
            What `add` raises.
            FrameAhead: frames are missing, and `skipping` is not allowed.
            FrameChanged: a committed frame had other content.
        """
        known: tuple[FrameMasks, ...] = ()
        if first_frame < self._next_frame:
            await self.commit()
            known = await find_committed_frames(
                self._backend.store, self.session, frames, first_frame=first_frame
            )
        times, fresh = StageTimes(), frames[len(known) :]
        if not fresh:
            await on_finish(FinishedClip(self.session, known, len(known), times))
            return
        first = first_frame + len(known)
        if not skipping:
            check_not_ahead(first, expected=self._next_frame)
        at_first = replace(self.session, next_frame=first)
        (step,) = plan(at_first, fresh, retention=self._spec.retention)
        await self.add(step, times=times, prepared="queue", known=known, on_finish=on_finish)

    async def add(
        self,
        step: Step,
        *,
        times: StageTimes,
        on_finish: OnFinish,
        prepared: Stage = "decode",
        known: tuple[FrameMasks, ...] = (),
    ) -> None:
        """Segment a clip; it is encoded, and committed if that is due, during the next one.

        `on_finish` is awaited with the clip and the frames that are `known` before it. The time
        until the engine begins counts as the stage `prepared`.

        Raises:
            Conflict, Unavailable: the engine's or the store's; also what prevented the commit of
                clips before this one. Nothing after them is committed.
        """
        session, before, start = self.session, self._memory, self._backend.workers.start
        spec = self._spec
        span = begin_clip(session.session_id, first=step.first, last=step.last)
        pixels = await start(clip_pixels, step, model_size=session.model_size)
        times.end(prepared)
        with within(span):
            found = await self._bank.segment(pixels, before=before, object_ids=session.object_ids)
        times.end("inference")
        if self._backend.rates is not None:
            await self._backend.rates.spend_engine(session.tenant, found.engine_s)
        times.batch_sizes.append(found.batch_size)
        outcome = await start(
            conclude, step, found, session, before, spec.calibration, spec.retention
        )
        if outcome.after is not before:
            times.end("encode")
            await self._bank.remember(outcome.after)
            times.end("inference")
        self._memory, self._next_frame = outcome.after, step.last + 1
        encoding = start(
            encode_clip,
            outcome,
            found,
            session,
            spec.loop_bias,
            aggregated=spec.aggregated,
            state=self._bank.state(),
        )
        times.end("encode")
        self._segmented.append(_Segmented(outcome, encoding, times, known, on_finish, span))
        if self._policy is not CommitPolicy.ALL_AT_ONCE:
            await self._begin_finish()

    async def commit(self) -> None:
        """Commit what is segmented, and wait for it; raise what prevented it."""
        if self._segmented:
            await self._begin_finish()
        await self._settle()
        if self._answered:
            self._finishing = asyncio.create_task(self._store_answered())
            await self._settle()

    async def close(self) -> None:
        """Wait for what is under way and ignore its outcome; commit what is answered, if it can be.

        However the pipeline ends: who has the masks counts on them.
        """
        await _outlast(asyncio.create_task(self._rescue()))
        encodings = [clip.encoding for clip in self._segmented]
        await asyncio.gather(*encodings, return_exceptions=True)

    async def _rescue(self) -> None:
        if self._finishing is not None:
            await asyncio.wait([self._finishing])
        if self._answered:
            try:
                await self._store_answered()
            except Exception as error:
                trace = None if isinstance(error, TamvtError) else error
                log.warning("frames answered are not committed: %s", error, exc_info=trace)

    async def _begin_finish(self) -> None:
        """Begin to answer or to commit what is segmented, once what was begun before is done."""
        await self._settle()
        clips, self._segmented = self._segmented, []
        at_the_end = self._policy is CommitPolicy.AT_THE_END
        finish = self._answer(clips) if at_the_end else self._commit(clips)
        self._finishing = asyncio.create_task(finish)

    async def _settle(self) -> None:
        """Wait for what is under way; raise what prevented it."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            await _outlast(finishing)
            finishing.result()

    async def _commit(self, clips: Sequence[_Segmented]) -> None:
        """Encode and store these clips in one commit, and answer them."""
        packed = await self._pack(clips)
        with within(clips[-1].span):
            await self._store(packed)
        for one in clips:
            one.times.end("store")
            end_clip(one.span, one.times)
        for one, stored in zip(clips, packed, strict=True):
            await one.on_finish(self._finished(one, stored))

    async def _answer(self, clips: Sequence[_Segmented]) -> None:
        """Encode and answer these clips, and keep what the commit at the end needs of them.

        Raise MasksTooLarge, SessionTooLarge.
        """
        limits, session = self._backend.store.limits, self.session
        for one, packed in zip(clips, await self._pack(clips), strict=True):
            # Too large masks are refused before they are answered, all else late (decision 82).
            sealed = await self._backend.workers.start(
                seal_masks, session.session_id, packed.masks, limits
            )
            before = session.stored_bytes + self._answered_bytes
            self._answered_bytes += count_needed_bytes(before, sealed, {}, limits) - before
            end_clip(one.span, one.times)
            # From here on it is committed, whether or not the client hears of it.
            self._answered = keep_needed([*self._answered, packed])
            await one.on_finish(self._finished(one, packed))

    def _finished(self, clip: _Segmented, packed: PackedClip) -> FinishedClip:
        frames = (*clip.known, *packed.masks)
        return FinishedClip(self.session, frames, len(clip.known), clip.times)

    async def _pack(self, clips: Sequence[_Segmented]) -> list[PackedClip]:
        """Wait until these clips are encoded; raise what prevented it."""
        await asyncio.gather(*(clip.encoding for clip in clips), return_exceptions=True)
        packed: list[PackedClip] = []
        before = [*self._answered[-1:]]
        for one in clips:
            next_frame = before[-1].last + 1 if before else self.session.next_frame
            encoded = one.encoding.result()
            before = [pack_clip(one.outcome, encoded, self.session, next_frame=next_frame)]
            packed += before
        for one in clips:
            one.times.end("encode")
        return packed

    async def _store_answered(self) -> None:
        """Commit what is answered; it is tried once."""
        clips, self._answered, self._answered_bytes = self._answered, [], 0
        await self._store(clips)

    async def _store(self, clips: Sequence[PackedClip]) -> None:
        """Commit these clips; raise what `SessionStore.append` raises."""
        before = self.session
        after = advance_session(
            before,
            clips,
            self._backend.snapshots,
            policy=self._policy,
            stateful=bool(self._spec.state),
        )
        self.session = await self._backend.store.append(
            before,
            after,
            masks=[item for clip in clips for item in clip.masks],
            entries={entry_field(clip.last): clip.entry for clip in clips if clip.entry},
            states={name_state_field(clip.last): clip.state for clip in clips if clip.state},
            owner=self._owner,
        )


def check_not_ahead(first_frame: int, *, expected: int) -> None:
    """Raise FrameAhead if frames are missing before `first_frame`."""
    if first_frame > expected:
        raise FrameAhead(
            f"frame {first_frame} was sent, but frame {expected} comes next", expected=expected
        )


async def find_committed_frames(
    store: SessionStore, session: Session, frames: Sequence[Frame], *, first_frame: int
) -> tuple[FrameMasks, ...]:
    """Return the stored masks of those frames that are committed already, proved by their digests.

    Raises Conflict where they are no longer kept, and FrameChanged.
    """
    last = min(first_frame + len(frames), session.next_frame) - 1
    if last < first_frame:
        return ()
    expected = session.next_frame
    if first_frame < session.kept_from:
        raise Conflict(
            f"the masks of frame {first_frame} are no longer kept; frame {expected} comes next",
            expected=expected,
        )
    known = await store.masks(session.session_id, first_frame, last)
    for frame, committed in zip(frames, known, strict=False):
        if not committed.dropped and frame.digest != committed.digest:
            raise FrameChanged(
                f"frame {committed.frame} is committed already, with other content; "
                f"frame {expected} comes next",
                expected=expected,
            )
    return known


async def _outlast(task: asyncio.Task[Any]) -> None:
    """Wait until the task has ended, however often the caller is cancelled meanwhile.

    A write that has begun may happen in any case: its task is never cancelled. The cancellation
    is raised afterwards.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if not task.cancelled():
        task.exception()  # otherwise asyncio complains that nobody asked for it
    if cancelled is not None:
        raise cancelled
