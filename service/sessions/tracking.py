"""The main job: start a session, append frames, read masks. No HTTP, no Redis commands.

An append is judged frame by frame. Frames that are committed already, with the same bytes, are
answered from the store; the rest is cut into clips from its first frame on, run through the
engine one clip after the other, and committed at once, all or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

from model.core.contract import ModelSpec
from service.engines.bank import SessionLocks
from service.engines.base import BankLease, Engine, Picture
from service.errors import (
    Conflict,
    FrameAhead,
    FrameChanged,
    NoFrames,
    Overloaded,
    UnknownFrame,
    UnknownModel,
)
from service.server.workers import Workers
from service.sessions.annotations import Annotation, read_annotation
from service.sessions.clip_pipeline import ClipPipeline
from service.sessions.clips import (
    EncodedClip,
    Outcome,
    Step,
    clip_pixels,
    conclude,
    decode_entry,
    encode_clip,
    encode_reference,
    history_after,
    plan,
)
from service.sessions.corrections import Corrected, correct, without_object
from service.sessions.frames import (
    Frame,
    Limits,
    Source,
    Video,
    frame_of_image,
    frame_of_picture,
    frames_of_video,
    read_picture,
)
from service.sessions.options import Options, new_session
from service.sessions.snapshots import fork
from service.store.records import FrameMasks, Session
from service.store.session_store import SessionStore
from service.telemetry.stage_times import Stopwatch


@dataclass(frozen=True, slots=True)
class Appended:
    """What an append came to. The first `replayed` of the frames were committed before."""

    session: Session
    frames: tuple[FrameMasks, ...]
    replayed: int


@dataclass(frozen=True, slots=True)
class Page:
    """Masks in order; `following` is the first frame that did not fit on the page, if any."""

    session: Session
    frames: tuple[FrameMasks, ...]
    following: int | None


class Tracker:
    """Sessions on a store and an engine for each served model; the first one is the default."""

    def __init__(
        self,
        *,
        store: SessionStore,
        engines: Mapping[str, Engine],
        workers: Workers,
        limits: Limits,
        deadline_s: float,
        rollback_clips: int = 16,
    ) -> None:
        self._store = store
        self._engines = engines
        self._workers = workers
        self._limits = limits
        self._deadline_s = deadline_s
        self._rollback_clips = rollback_clips
        self._locks = SessionLocks()

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The models that are served; the first one is the default."""
        return tuple(engine.spec for engine in self._engines.values())

    async def start(
        self, image: bytes, given: Annotation, options: Options, *, tenant: str
    ) -> Session:
        """A new session whose frame 0 is `image`, with the masks that the client gives."""
        spec = self._engine(options.model).spec
        run, limits = self._workers.start, self._limits
        async with self._deadline():
            rgb = await run(read_picture, image, limits.image, name="the frame")
            frame_size = (rgb.shape[0], rgb.shape[1])
            objects = await run(
                read_annotation,
                given,
                frame_size=frame_size,
                limits=limits.image,
                max_objects=min(limits.objects, spec.max_objects),
            )
            session = new_session(spec, frame_size, objects, options)
            frame = await run(frame_of_picture, image, rgb, model_size=session.model_size)
            masks, entry = await run(encode_reference, frame, objects, session)
            return await self._store.create(
                session, masks=[masks], entries={0: entry}, tenant=tenant
            )

    async def append(
        self, session_id: str, source: Source, *, first_frame: int, watch: Stopwatch
    ) -> Appended:
        """The masks of the frames in `source`, of which the first one is number `first_frame`.

        Raises:
            UnknownSession; NoFrames, TooManyFrames; what `service.sessions.frames` raises.
            FrameAhead: frames between the session's last one and `first_frame` are missing.
            FrameChanged: a frame that is committed already had other content.
            Conflict: another process advanced the session meanwhile.
            Unavailable: the store, the engine or the deadline; the same request may be repeated.
        """
        # The turn comes before the load: a retry waits for its first try, and then sees it.
        async with self._deadline(), self._locks.wait(session_id, deadline_s=self._deadline_s):
            watch.lap("queue")
            session = await self._store.load(session_id)
            watch.lap("store")
            if first_frame > session.next_frame:
                raise FrameAhead(
                    f"frame {first_frame} was sent, but frame {session.next_frame} comes next",
                    expected=session.next_frame,
                )
            frames = await self._read(source, session)
            watch.lap("decode")
            known = await self._replay(session, frames, first_frame=first_frame)
            watch.lap("store")
            fresh = frames[len(known) :]
            if not fresh:
                return Appended(session, known, replayed=len(known))
            session, masks = await self._track(session, fresh, watch=watch)
            return Appended(session, (*known, *masks), replayed=len(known))

    def read_frame(self, session: Session, image: bytes, *, number: int) -> Frame:
        """The frame of an image for this session; it blocks. What `frames` raises."""
        return frame_of_image(
            image,
            self._limits.image,
            name=f"frame {number}",
            frame_size=session.frame_size,
            model_size=session.model_size,
        )

    @asynccontextmanager
    async def pipeline(self, session_id: str) -> AsyncIterator[ClipPipeline]:
        """The session's turn and bank, for a few clips that are committed one by one."""
        async with self._locks.wait(session_id, deadline_s=self._deadline_s):
            session = await self._store.load(session_id)
            engine = self._engine(session.model)
            async with engine.lease(
                session_id,
                version=session.version,
                memory=session.memory,
                model_size=session.model_size,
                pictures=partial(self._pictures, session),
            ) as bank:
                pipeline = ClipPipeline(
                    session,
                    bank,
                    spec=engine.spec,
                    store=self._store,
                    workers=self._workers,
                    replay=self._replay,
                    rollback_clips=self._rollback_clips,
                )
                try:
                    yield pipeline
                    await pipeline.settle()
                finally:
                    await pipeline.close()
                bank.commit(pipeline.session.version)

    async def correct(
        self, session_id: str, given: Annotation, *, frame: int | None = None
    ) -> Corrected:
        """The newest frame with the masks that a person gives; see `corrections.correct`.

        `frame`, where it is not the newest frame's number, makes it a Conflict.
        """
        async with self._deadline(), self._locks.wait(session_id, deadline_s=self._deadline_s):
            session = await self._store.load(session_id)
            most = min(self._limits.objects, self._engine(session.model).spec.max_objects)
            return await correct(
                session,
                given,
                frame=frame,
                store=self._store,
                workers=self._workers,
                limits=replace(self._limits, objects=most),
            )

    async def remove(self, session_id: str, object_id: int) -> None:
        """The session tracks the object no longer; UnknownObject, LastObject, Conflict."""
        async with self._deadline(), self._locks.wait(session_id, deadline_s=self._deadline_s):
            session = await self._store.load(session_id)
            after = without_object(session, object_id)
            await self._store.append(session, after, masks=[], entries={})

    async def fork(self, session_id: str, *, tenant: str, at: int | None = None) -> Session:
        """A new session from this one, as it is or as it was after frame `at`; see `forks`."""
        async with self._deadline(), self._locks.wait(session_id, deadline_s=self._deadline_s):
            session = await self._store.load(session_id)
            return await fork(session, at, store=self._store, tenant=tenant)

    async def session(self, session_id: str) -> Session:
        """The session as it is committed; its time to live starts again."""
        async with self._deadline():
            return await self._store.load(session_id)

    async def masks(self, session_id: str, *, first: int, last: int | None, most: int) -> Page:
        """The masks of frames `first` to `last` (None: the newest), at most `most` of them."""
        async with self._deadline():
            session = await self._store.load(session_id)
            newest = session.next_frame - 1
            end = newest if last is None else min(last, newest)
            if not session.kept_from <= first <= end:
                raise UnknownFrame(
                    f"no masks from frame {first} to {end if last is None else last}; "
                    f"those of frames {session.kept_from} to {newest} are kept"
                )
            stop = min(end, first + most - 1)
            frames = await self._store.masks(session_id, first, stop)
            return Page(session, frames, following=stop + 1 if stop < end else None)

    async def delete(self, session_id: str, *, tenant: str) -> None:
        """The session and its bank are gone."""
        async with self._deadline():
            await self._store.delete(session_id, tenant=tenant)
            for engine in self._engines.values():
                await engine.discard(session_id)

    async def ready(self) -> None:
        """Nothing, if the store and every engine answer; Unavailable otherwise."""
        async with self._deadline():
            await self._store.ping()
            for engine in self._engines.values():
                await engine.ready()

    def _engine(self, name: str | None) -> Engine:
        if name is None:
            return next(iter(self._engines.values()))
        if name not in self._engines:
            served = ", ".join(self._engines)
            raise UnknownModel(f"the model {name!r} is not served here; served: {served}")
        return self._engines[name]

    async def _read(self, source: Source, session: Session) -> Sequence[Frame]:
        """The frames of an append, all of them checked."""
        sizes = {"frame_size": session.frame_size, "model_size": session.model_size}
        run, limits = self._workers.start, self._limits
        if isinstance(source, Video):
            return await run(frames_of_video, source, limits, **sizes)
        if not source:
            raise NoFrames("the request holds no frame")
        limits.check_count(len(source))
        named = ((f"frame {number} of the request", data) for number, data in enumerate(source, 1))
        return await asyncio.gather(
            *(run(frame_of_image, data, limits.image, name=name, **sizes) for name, data in named)
        )

    async def _replay(
        self, session: Session, frames: Sequence[Frame], *, first_frame: int
    ) -> tuple[FrameMasks, ...]:
        """The stored masks of those frames that are committed already, proved by their digests."""
        last = min(first_frame + len(frames), session.next_frame) - 1
        if last < first_frame:
            return ()
        expected = session.next_frame
        if first_frame < session.kept_from:
            raise Conflict(
                f"the masks of frame {first_frame} are no longer kept; frame {expected} comes next",
                expected=expected,
            )
        known = await self._store.masks(session.session_id, first_frame, last)
        for frame, committed in zip(frames, known, strict=False):
            if not committed.dropped and frame.digest != committed.digest:
                raise FrameChanged(
                    f"frame {committed.frame} is committed already, with other content; "
                    f"frame {expected} comes next",
                    expected=expected,
                )
        return known

    async def _track(
        self, session: Session, frames: Sequence[Frame], *, watch: Stopwatch
    ) -> tuple[Session, tuple[FrameMasks, ...]]:
        """The session with these frames committed, and their masks."""
        engine = self._engine(session.model)
        steps = plan(session, frames, rollback_clips=self._rollback_clips)
        async with engine.lease(
            session.session_id,
            version=session.version,
            memory=session.memory,
            model_size=session.model_size,
            pictures=partial(self._pictures, session),
        ) as bank:
            outcomes, clips = await self._segment(session, steps, bank, watch=watch)
            rollback_clips = self._rollback_clips
            after = session.advanced(
                memory=outcomes[-1].after,
                next_frame=session.next_frame + len(frames),
                history=history_after(session, outcomes, rollback_clips=rollback_clips),
                weights_sha256=outcomes[-1].weights_sha256,
            )
            masks = tuple(masks for clip in clips for masks in clip.masks)
            entries = {clip.masks[-1].frame: clip.entry for clip in clips if clip.entry}
            committed = await self._store.append(session, after, masks=masks, entries=entries)
            bank.commit(committed.version)
            watch.lap("store")
        return committed, masks

    async def _segment(
        self, session: Session, steps: Sequence[Step], bank: BankLease, *, watch: Stopwatch
    ) -> tuple[list[Outcome], list[EncodedClip]]:
        """Every clip, one after the other; one is encoded while the next is in the engine."""
        run, calibration = self._workers.start, self._engine(session.model).spec.calibration
        outcomes: list[Outcome] = []
        encoding: list[asyncio.Future[EncodedClip]] = []
        memory = session.memory
        try:
            for step in steps:
                pixels = await run(clip_pixels, step, model_size=session.model_size)
                watch.lap("decode")
                found = await bank.segment(pixels, before=memory, object_ids=session.object_ids)
                watch.lap("inference")
                watch.batch_sizes.append(found.batch_size)
                outcome = await run(conclude, step, found, session, memory, calibration)
                if outcome.after is not memory:
                    bank.remember(outcome.after)
                memory = outcome.after
                outcomes.append(outcome)
                encoding.append(run(encode_clip, outcome, found, session))
                watch.lap("encode")
        finally:
            # Waited for in any case: what was started never outlives its request.
            await asyncio.gather(*encoding, return_exceptions=True)
            watch.lap("encode")
        return outcomes, [clip.result() for clip in encoding]

    async def _pictures(self, session: Session) -> Sequence[Picture]:
        """The picture of each entry of the session's memory, in its order, to rebuild a bank."""
        entries = await self._store.entries(session)
        run = self._workers.start
        remembered = zip(entries, session.memory.entries, strict=True)
        return await asyncio.gather(
            *(run(decode_entry, stored, entry.object_ids, session) for stored, entry in remembered)
        )

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Overloaded once the block has taken too long. What it was doing is cancelled."""
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as error:
            raise Overloaded(
                f"no answer within {self._deadline_s:g} s; send fewer frames at once"
            ) from error
