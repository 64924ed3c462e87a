"""The clip pipeline: while one clip is in the engine, the one before is encoded and committed.

REST appends and streams use the same pipeline. They differ in the commit policy: an append commits
all its clips at once, a stream each clip as it is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from opentelemetry.trace import Span

from model.core.contract import ModelSpec
from service.engines.base import BankLease
from service.engines.pool import served_tenant
from service.errors import Conflict, FrameAhead, FrameChanged
from service.sessions.backend import SessionBackend
from service.sessions.clips import (
    EncodedClip,
    Outcome,
    Step,
    clip_pixels,
    conclude,
    drop_masks,
    encode_clip,
    plan,
)
from service.sessions.frames import Frame
from service.sessions.snapshots import add_clips
from service.store.records import FrameMasks, Session, entry_field, name_state_field
from service.store.session_store import SessionStore
from service.telemetry.stage_times import Stage, StageTimes
from service.telemetry.tracing import begin_clip, end_clip, within

log = logging.getLogger(__name__)

# Decides, from how many clips are segmented and not committed, whether to commit them now.
# What is left when the pipeline ends is committed then.
CommitPolicy = Callable[[int], bool]


def commit_each_clip(uncommitted: int) -> bool:
    """Return True: a stream's clip is answered as soon as it is done."""
    return True


def commit_all_at_once(uncommitted: int) -> bool:
    """Return False: an append is committed after its last clip, all or nothing."""
    return False


@dataclass(frozen=True, slots=True)
class CommittedClip:
    """A clip that is committed. `frames` are in order, those passed over before it included."""

    session: Session
    frames: tuple[FrameMasks, ...]
    replayed: int  # of these, so many were committed before
    times: StageTimes  # from its pixels on; empty if all of it was committed before


OnCommit = Callable[[CommittedClip], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Segmented:
    """A clip that is not committed yet."""

    outcome: Outcome
    encoding: asyncio.Future[EncodedClip]
    times: StageTimes
    known: tuple[FrameMasks, ...]
    on_commit: OnCommit
    span: Span


@asynccontextmanager
async def open_pipeline(
    session: Session, backend: SessionBackend, *, policy: CommitPolicy
) -> AsyncIterator[ClipPipeline]:
    """Yield the session's pipeline, with its bank; the caller holds the session's lock.

    When the block is left, what is segmented is committed. When it raises, commits under way are
    still waited for, and no other is begun.
    """
    engine = backend.engine(session.model)
    served_tenant.set(session.tenant)
    async with engine.lease(
        session.session_id,
        version=session.version,
        memory=session.memory,
        model_size=session.model_size,
        pictures=partial(backend.pictures, session),
        state=backend.find_state_source(session),
    ) as bank:
        pipeline = ClipPipeline(session, bank, backend, spec=engine.spec, policy=policy)
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
    ) -> None:
        self.session = session  # as it is committed
        self._bank = bank
        self._backend = backend
        self._spec = spec
        self._policy = policy
        self._memory, self._next_frame = session.memory, session.next_frame  # after what is added
        self._uncommitted: list[_Segmented] = []
        self._committing: asyncio.Task[None] | None = None

    async def add_frames(
        self,
        frames: Sequence[Frame],
        *,
        first_frame: int,
        skipping: bool,
        on_commit: OnCommit,
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
            await on_commit(CommittedClip(self.session, known, len(known), times))
            return
        first = first_frame + len(known)
        if not skipping:
            check_not_ahead(first, expected=self._next_frame)
        at_first = replace(self.session, next_frame=first)
        (step,) = plan(at_first, fresh, retention=self._spec.retention)
        await self.add(step, times=times, prepared="queue", known=known, on_commit=on_commit)

    async def add(
        self,
        step: Step,
        *,
        times: StageTimes,
        on_commit: OnCommit,
        prepared: Stage = "decode",
        known: tuple[FrameMasks, ...] = (),
    ) -> None:
        """Segment a clip; it is encoded, and committed if that is due, during the next one.

        `on_commit` is awaited with the clip and the frames that are `known` before it. The time
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
        self._uncommitted.append(_Segmented(outcome, encoding, times, known, on_commit, span))
        if self._policy(len(self._uncommitted)):
            await self._begin_commit()

    async def commit(self) -> None:
        """Commit what is segmented, and wait for it; raise what prevented it."""
        if self._uncommitted:
            await self._begin_commit()
        await self._settle()

    async def close(self) -> None:
        """Wait for what is under way and ignore its outcome."""
        if self._committing is not None:
            await _outlast(self._committing)
        encodings = [clip.encoding for clip in self._uncommitted]
        await asyncio.gather(*encodings, return_exceptions=True)

    async def _begin_commit(self) -> None:
        await self._settle()
        clips, self._uncommitted = self._uncommitted, []
        self._committing = asyncio.create_task(self._commit(clips))

    async def _settle(self) -> None:
        """Wait for the commit under way; raise what prevented it."""
        committing, self._committing = self._committing, None
        if committing is not None:
            await _outlast(committing)
            committing.result()

    async def _commit(self, clips: Sequence[_Segmented]) -> None:
        """Encode and store these clips in one commit, and answer them."""
        before, outcomes = self.session, [clip.outcome for clip in clips]
        stateful = bool(self._spec.state)
        await asyncio.gather(*(clip.encoding for clip in clips), return_exceptions=True)
        encoded = [clip.encoding.result() for clip in clips]
        masks: list[tuple[FrameMasks, ...]] = []
        next_frame = before.next_frame
        for clip, done in zip(encoded, outcomes, strict=True):
            skipped = drop_masks(before, range(next_frame, done.step.first))
            masks.append((*skipped, *clip.masks))
            next_frame = done.step.last + 1
        for one in clips:
            one.times.end("encode")
        after = before.advanced(
            memory=outcomes[-1].after,
            next_frame=next_frame,
            snapshots=add_clips(
                before,
                [(done.step.last, done.after) for done in outcomes],
                self._backend.snapshots,
                stateful=stateful,
            ),
            weights_sha256=outcomes[-1].weights_sha256,
            runtime=outcomes[-1].runtime,
            state=name_state_field(outcomes[-1].step.last) if stateful else None,
        )
        # That the first clip of a session finds no state is as it should be.
        rebuilt = [o.step.first for o in outcomes if o.state_rebuilt and before.newest > 0]
        if rebuilt:
            log.warning("the state of session %s was made anew", before.session_id)
            after = replace(after, state_rebuilt_at=rebuilt[-1])
        with within(clips[-1].span):
            self.session = await self._backend.store.append(
                before,
                after,
                masks=[item for frames in masks for item in frames],
                entries={
                    entry_field(clip.masks[-1].frame): clip.entry for clip in encoded if clip.entry
                },
                states={
                    name_state_field(clip.masks[-1].frame): clip.state
                    for clip in encoded
                    if clip.state
                },
            )
        for one in clips:
            one.times.end("store")
            end_clip(one.span, one.times)
        for one, frames in zip(clips, masks, strict=True):
            answer = (*one.known, *frames)
            await one.on_commit(CommittedClip(self.session, answer, len(one.known), one.times))


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
