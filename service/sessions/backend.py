"""What sessions are made with: a store, engines and threads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from model.core.contract import ModelSpec
from service.engines.base import Engine
from service.errors import UnknownModel
from service.server.workers import Workers
from service.store.session_store import SessionStore


@dataclass(frozen=True, slots=True)
class SessionBackend:
    """Where sessions are stored, what runs their models, and how far they can go back."""

    store: SessionStore
    workers: Workers
    engines: Mapping[str, Engine]  # by model; the first one is the default
    rollback_clips: int = 16

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
            raise UnknownModel(f"the model {model!r} is not served here; served: {served}")
        return self.engines[model]
