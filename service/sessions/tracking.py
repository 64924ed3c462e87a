"""The use cases: start a session, append, correct, fork, read masks, delete. No HTTP, no Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from model.core.contract import ModelSpec
from model.core.session_size import count_most_objects
from service.access.admission import Reservation
from service.errors import Overloaded
from service.sessions import appends, corrections, snapshots, starts
from service.sessions.annotations import Annotation
from service.sessions.backend import SessionBackend
from service.sessions.clip_commits import CommitPolicy
from service.sessions.clip_pipeline import ClipPipeline, open_pipeline
from service.sessions.frames import Frame, Limits, Source, make_frame_of_image
from service.sessions.options import ChosenOptions
from service.sessions.pages import Page, read_page
from service.sessions.session_locks import SessionLocks
from service.store.listing import SessionPage, list_sessions
from service.store.records import Session
from service.telemetry.stage_times import StageTimes


class TrackingService:
    """Every use case of a session, each with a deadline; changes hold the session's lock.

    Another tenant's session is an UnknownSession in each of them.
    """

    def __init__(self, backend: SessionBackend, *, limits: Limits, deadline_s: float) -> None:
        self._backend = backend
        self._store = backend.store
        self._limits = limits
        self._deadline_s = deadline_s
        self._locks = SessionLocks(deadline_s=deadline_s)

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The models that are served; the first one is the default."""
        return self._backend.specs

    def runtime(self, model: str) -> str:
        """Return what runs this model; raise UnknownModel."""
        return self._backend.engine(model).runtime

    def estimate_wait_s(self, tenant: str) -> float:
        """Return how many seconds a clip of this tenant waits for the slowest engine."""
        return max(engine.estimate_wait_s(tenant) for engine in self._backend.engines.values())

    async def start(
        self,
        image: bytes,
        given: Annotation,
        options: ChosenOptions,
        *,
        tenant: str,
        reservation: Reservation,
    ) -> starts.Started:
        """Start a session whose frame 0 is `image`, with the masks that the client gives."""
        async with self._deadline():
            return await starts.start(
                image,
                given,
                options,
                self._backend,
                limits=self._limits,
                tenant=tenant,
                reservation=reservation,
            )

    async def append(
        self,
        session_id: str,
        source: Source,
        *,
        tenant: str,
        first_frame: int,
        times: StageTimes,
        reservation: Reservation,
    ) -> appends.AppendedFrames:
        """Track the frames in `source`, of which the first one is number `first_frame`.

        Raises:
            UnknownSession; NoFrames, TooManyFrames; what `service.sessions.frames` raises.
            FrameAhead: frames between the session's last one and `first_frame` are missing.
            FrameChanged: a frame that is committed already had other content.
            Conflict: another process advanced the session meanwhile.
            Unavailable: the store, the engine or the deadline; the same request may be repeated.
        """
        # The lock comes before the load: a retry waits for its first try, and then sees it.
        async with self._deadline(), self._locks.acquire(session_id):
            times.end("queue")
            session = await self._store.load(session_id, tenant=tenant)
            times.end("store")
            return await appends.append(
                session,
                source,
                self._backend,
                first_frame=first_frame,
                limits=self._limits,
                times=times,
                reservation=reservation,
            )

    @asynccontextmanager
    async def pipeline(
        self,
        session_id: str,
        *,
        tenant: str,
        policy: CommitPolicy = CommitPolicy.EACH_CLIP,
        owner: str = "",
        on_wanted: Callable[[], None] | None = None,
    ) -> AsyncIterator[ClipPipeline]:
        """Yield the pipeline for some clips of a stream; see `open_pipeline`.

        `on_wanted` is called when somebody else in this process waits for the session.
        """
        async with self._locks.acquire(session_id, on_wanted=on_wanted):
            session = await self._store.load(session_id, tenant=tenant)
            opening = open_pipeline(session, self._backend, policy=policy, owner=owner)
            async with opening as pipeline:
                yield pipeline

    @property
    def limits_rates(self) -> bool:
        """Return whether a tenant's frames in a second are limited."""
        return self._backend.rates is not None

    async def count_frames(self, tenant: str, count: int) -> float:
        """Count frames that a stream tracked, and return the seconds until it may go on."""
        rates = self._backend.rates
        return await rates.count_frames(tenant, count) if rates is not None else 0.0

    def read_frame(self, session: Session, image: bytes, *, number: int) -> Frame:
        """Return the frame of an image for this session; it blocks. Raise what `frames` raises."""
        sizes = {"frame_size": session.frame_size, "model_size": session.model_size}
        return make_frame_of_image(image, self._limits.image, name=f"frame {number}", **sizes)

    async def correct(
        self,
        session_id: str,
        given: Annotation,
        *,
        tenant: str,
        reservation: Reservation,
        frame: int | None = None,
    ) -> corrections.Corrected:
        """Give the newest frame the masks that a person draws; see `corrections.correct`.

        Raise Conflict if `frame` is given and is not the newest frame's number.
        """
        async with self._locked(session_id, tenant) as session:
            spec = self._backend.engine(session.model).spec
            # A session that is seen larger has room for fewer.
            room = count_most_objects(spec, min(session.model_size))
            most = min(self._limits.objects, spec.max_objects, room)
            return await corrections.correct(
                session,
                given,
                frame=frame,
                store=self._store,
                workers=self._backend.workers,
                limits=replace(self._limits, objects=most),
                reservation=reservation,
            )

    async def remove(self, session_id: str, object_id: int, *, tenant: str) -> None:
        """Track the object no longer; raise UnknownObject, LastObject or Conflict."""
        async with self._locked(session_id, tenant) as session:
            after = corrections.remove_object(session, object_id)
            await self._store.append(session, after, masks=[], entries={})

    async def fork(self, session_id: str, *, tenant: str, at: int | None = None) -> Session:
        """Start a session from this one as it is, or was after frame `at`; see `snapshots.fork`."""
        async with self._locked(session_id, tenant) as session:
            return await snapshots.fork(session, at, store=self._store)

    async def session(self, session_id: str, *, tenant: str) -> Session:
        """Return the session as it is committed; its time to live starts again."""
        async with self._deadline():
            return await self._store.load(session_id, tenant=tenant)

    def check_model(self, session: Session) -> None:
        """Raise UnknownModel unless the session's model is served here."""
        self._backend.engine(session.model)

    async def sessions(self, *, tenant: str, after: str, most: int) -> SessionPage:
        """Return the tenant's sessions after the id `after`, at most `most`."""
        async with self._deadline():
            return await list_sessions(self._store, tenant=tenant, after=after, most=most)

    async def masks(
        self, session_id: str, *, tenant: str, first: int, last: int | None, most: int
    ) -> Page:
        """Return the masks of frames `first` to `last` (None: the newest), at most `most`."""
        async with self._deadline():
            return await read_page(
                self._store, session_id, tenant=tenant, first=first, last=last, most=most
            )

    async def delete(self, session_id: str, *, tenant: str) -> None:
        """Delete the session and its banks."""
        async with self._deadline():
            await self._store.delete(session_id, tenant=tenant)
            # A clip under way keeps its bank when it ends: it is discarded after that.
            async with self._locks.acquire(session_id):
                for engine in self._backend.engines.values():
                    await engine.discard(session_id)

    async def ready(self) -> None:
        """Write to the store and ask every engine; raise Unavailable if one cannot."""
        async with self._deadline():
            await self._store.check_writable()
            for engine in self._backend.engines.values():
                await engine.ready()

    @asynccontextmanager
    async def _locked(self, session_id: str, tenant: str) -> AsyncIterator[Session]:
        """Yield the session as it is committed, under its lock and the deadline."""
        async with self._deadline(), self._locks.acquire(session_id):
            yield await self._store.load(session_id, tenant=tenant)

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Cancel the block when it takes too long, and raise Overloaded."""
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as error:
            raise Overloaded(
                f"no answer within {self._deadline_s:g} s; send fewer frames at once"
            ) from error
