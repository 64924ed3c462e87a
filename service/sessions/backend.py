"""What sessions are made with: a store, engines and threads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from model.core.contract import ModelSpec
from service.engines.base import Engine, EntryPicture
from service.engines.states import StateSource
from service.errors import UnknownModel, echo
from service.media.video_decoder import VideoDecoder
from service.server.workers import Workers
from service.sessions.clips import decode_entry
from service.sessions.snapshots import DEFAULT_POLICY, SnapshotPolicy
from service.store.rates import TenantRates
from service.store.records import Session
from service.store.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class SessionBackend:
    """Where sessions are stored, what runs their models, and how far they can go back."""

    store: SessionStore
    workers: Workers
    engines: Mapping[str, Engine]  # by model; the first one is the default
    snapshots: SnapshotPolicy = DEFAULT_POLICY
    videos: VideoDecoder = field(default_factory=VideoDecoder)
    rates: TenantRates | None = None  # None: no tenant's frames and seconds are limited

    @property
    def specs(self) -> tuple[ModelSpec, ...]:
        """The models that are served; the first one is the default."""
        return tuple(engine.spec for engine in self.engines.values())

    def engine(self, model: str | None) -> Engine:
        """Return the engine that runs this model (None: the default); raise UnknownModel."""
        if model is None:
            return next(iter(self.engines.values()))
        if model not in self.engines:
            served = ", ".join(self.engines)
            raise UnknownModel(f"the model {echo(model)!r} is not served here; served: {served}")
        return self.engines[model]

    def find_state_source(self, session: Session) -> StateSource:
        """Return where the state is found with which the session's model goes on."""
        newest = session.memory.newest
        corrected = newest.frame == session.newest and newest.revision > 0
        return StateSource(partial(self._read_state, session), corrected)

    async def _read_state(self, session: Session) -> bytes | None:
        if not session.state:
            return None
        (state,) = await self.store.states(session, [session.state])
        return state

    async def pictures(self, session: Session) -> Sequence[EntryPicture]:
        """Return the picture of each entry of the session's memory, in its order."""
        entries = await self.store.entries(session)
        remembered = zip(entries, session.memory.entries, strict=True)
        return await asyncio.gather(
            *(
                self.workers.start(decode_entry, stored, entry.object_ids, session)
                for stored, entry in remembered
            )
        )
