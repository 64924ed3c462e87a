"""Clips of one session, one after the other, each committed while the next is in the engine.

What an append is to REST, a burst is to a stream: the session's turn and its bank are held from
the first clip to the last, and every clip is a commit of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from model.core.contract import ModelSpec
from service.engines.base import BankLease, ClipMasks
from service.errors import FrameAhead
from service.server.workers import Workers
from service.sessions.clips import (
    Outcome,
    clip_pixels,
    conclude,
    encode_clip,
    history_after,
    passed_over,
    plan,
)
from service.sessions.frames import Frame
from service.store.records import FrameMasks, Session
from service.store.session_store import SessionStore


@dataclass(slots=True)
class ClipTimes:
    """When the stages of a clip ended, in seconds of `time.perf_counter`; 0: there was none."""

    queued: float = 0.0  # the engine began
    inferred: float = 0.0
    encoded: float = 0.0
    stored: float = 0.0
    batch_size: int = 0  # clips that the model ran together, this one included


@dataclass(frozen=True, slots=True)
class Tracked:
    """A clip that is committed. `frames` are in order, those passed over before it included."""

    session: Session
    frames: tuple[FrameMasks, ...]
    replayed: int  # of these, so many were committed before
    times: ClipTimes


Replay = Callable[..., Awaitable[tuple[FrameMasks, ...]]]
Then = Callable[[Tracked], Awaitable[None]]


class ClipPipeline:
    """Made by `Tracker.pipeline`, which holds the turn and the bank meanwhile."""

    def __init__(
        self,
        session: Session,
        bank: BankLease,
        *,
        spec: ModelSpec,
        store: SessionStore,
        workers: Workers,
        replay: Replay,
        rollback_clips: int,
    ) -> None:
        self.session = session  # as it is once every clip so far is committed
        self._bank = bank
        self._spec = spec
        self._store = store
        self._workers = workers
        self._replay = replay
        self._rollback_clips = rollback_clips
        self._finishing: asyncio.Task[None] | None = None

    async def add(
        self, frames: Sequence[Frame], *, first_frame: int, skipping: bool, then: Then
    ) -> None:
        """Infers the clip; it is committed, and `then` is awaited with it, during the next one.

        Frames that are committed already are answered from the store; `skipping` allows to leave
        frames out before the clip, which are committed as dropped.

        Raises:
            What the clip before could not be committed for; nothing after it is committed.
            FrameAhead: frames are missing, and `skipping` is not allowed.
            FrameChanged, Conflict, Unavailable: as for `Tracker.append`.
        """
        known = await self._known(frames, first_frame=first_frame)
        fresh = frames[len(known) :]
        if not fresh:
            await then(Tracked(self.session, known, len(known), ClipTimes()))
            return
        before, first = self.session, first_frame + len(known)
        if first > before.next_frame and not skipping:
            raise FrameAhead(
                f"frame {first} was sent, but frame {before.next_frame} comes next",
                expected=before.next_frame,
            )
        times = ClipTimes()
        outcome, found = await self._segment(fresh, times, first=first)
        await self.settle()
        self.session = after = self._after(outcome)
        self._finishing = asyncio.create_task(
            self._finish(outcome, found, before, after, known, times, then)
        )

    async def settle(self) -> None:
        """Nothing, once what was added is committed and told; raises what prevented it."""
        finishing, self._finishing = self._finishing, None
        if finishing is not None:
            try:
                await asyncio.shield(finishing)
            except asyncio.CancelledError:
                # A write that has begun is waited for: it may happen in any case.
                await asyncio.gather(finishing, return_exceptions=True)
                raise

    async def close(self) -> None:
        """Nothing, once nothing is under way any more, whatever became of it."""
        if self._finishing is not None:
            await asyncio.gather(self._finishing, return_exceptions=True)

    async def _known(self, frames: Sequence[Frame], *, first_frame: int) -> tuple[FrameMasks, ...]:
        if first_frame >= self.session.next_frame:
            return ()
        await self.settle()
        return await self._replay(self.session, frames, first_frame=first_frame)

    async def _segment(
        self, frames: Sequence[Frame], times: ClipTimes, *, first: int
    ) -> tuple[Outcome, ClipMasks]:
        """What becomes of a clip that begins with frame `first`; the bank remembers it."""
        session, before = self.session, self.session.memory
        steps = plan(replace(session, next_frame=first), frames)
        assert len(steps) == 1, "a clip of more frames than the session's clips have"
        pixels = await self._workers.start(clip_pixels, steps[0], model_size=session.model_size)
        times.queued = time.perf_counter()
        found = await self._bank.segment(pixels, before=before, object_ids=session.object_ids)
        times.inferred = time.perf_counter()
        times.batch_size = found.batch_size
        outcome = await self._workers.start(
            conclude, steps[0], found, session, before, self._spec.calibration
        )
        if outcome.after is not before:
            self._bank.remember(outcome.after)
        return outcome, found

    def _after(self, outcome: Outcome) -> Session:
        """The session after a clip."""
        history = history_after(self.session, [outcome], rollback_clips=self._rollback_clips)
        return self.session.advanced(
            memory=outcome.after,
            next_frame=outcome.step.last + 1,
            history=history,
            weights_sha256=outcome.weights_sha256,
        )

    async def _finish(
        self,
        outcome: Outcome,
        found: ClipMasks,
        before: Session,
        after: Session,
        known: tuple[FrameMasks, ...],
        times: ClipTimes,
        then: Then,
    ) -> None:
        clip = await self._workers.start(encode_clip, outcome, found, before)
        times.encoded = time.perf_counter()
        entries = {} if clip.entry is None else {outcome.step.last: clip.entry}
        masks = (*passed_over(before, range(before.next_frame, outcome.step.first)), *clip.masks)
        committed = await self._store.append(before, after, masks=masks, entries=entries)
        times.stored = time.perf_counter()
        await then(Tracked(committed, (*known, *masks), len(known), times))
