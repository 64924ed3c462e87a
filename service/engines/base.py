"""The contract of an engine. Letters: L frames of a clip, N entries, O objects, h and w model size.

An engine keeps a bank for each session it has served lately. A bank is a cache: a lease that ends
without `commit` discards it, and the next lease rebuilds it from the memory (decision 14). The
engine does not guard against two leases of one session: its caller holds the session's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.engines.states import NO_STATE, ModelState, StateSource
from service.telemetry.call_times import CallTimes
from service.telemetry.vitals import EngineVitals


class EntryPicture(NamedTuple):
    """What one entry is made of, at the model's size; the masks in the order of its object_ids."""

    frame: NDArray[np.uint8]  # (h, w, 3) RGB
    masks: NDArray[np.uint8]  # (O, h, w)


Pictures = Callable[[], Awaitable[Sequence[EntryPicture]]]


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """How much an engine may hold, and how long a clip may take."""

    waiting: int = 32  # clips that wait, beyond those that run
    bank_bytes: int = 2**30  # of all banks: those used least recently are dropped
    clip_deadline_s: float = 60.0  # of one clip, its wait included


DEFAULT_LIMITS: Final = EngineLimits()
TRITON: Final = "triton"  # a runtime that is its own affair


@dataclass(frozen=True, slots=True)
class ClipMasks:
    """The masks of one clip, in the order of the object_ids that were asked for."""

    masks: NDArray[np.uint8]  # (L, O, h, w) soft masks
    confidence: NDArray[np.float32]  # (L, O)
    batch_size: int  # clips that the model ran together, this one included
    weights_sha256: str  # of the model
    runtime: str = ""  # see Engine.runtime
    engine_s: float = 0.0  # that the model took
    state_rebuilt: bool = False  # before this clip, since no stored one could be read


class BankLease(Protocol):
    """The exclusive use of one session's bank, until the lease ends."""

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """Return the masks of frames (L, h, w, 3), tracked from the memory `before`.

        The bank stays as it is; the first call rebuilds it if it is of another memory. Raise
        EngineUnavailable beyond the deadline and Overloaded if too many clips wait.
        """
        ...

    async def remember(self, after: Memory) -> None:  # decision 49
        """Write the last frame of the clip segmented last into slot `after.newest.slot`.

        Objects that this entry does not know get zeros. A clip that the memory does not remember
        is not followed by this call. Where `memorize` makes entries it runs, and its state is
        that after the clip; then raise as `segment` does.
        """
        ...

    def state(self) -> ModelState:
        """Return the model's own state after the clip segmented last, which never changes."""
        ...

    def commit(self, version: int) -> None:
        """Keep the bank, as that of this version of the session, when the lease ends."""
        ...


class Engine(Protocol):
    """Runs one model for many sessions."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def runtime(self) -> str:
        """Return what runs the model, and in which precision: `openvino/bf16`, or `triton`."""
        ...

    def estimate_wait_s(self, tenant: str) -> float:
        """Return how many seconds a clip of this tenant waits until the model takes it."""
        ...

    async def ready(self) -> None:
        """Raise EngineUnavailable unless the model can answer."""
        ...

    def lease(
        self,
        session_id: str,
        *,
        version: int,
        memory: Memory,
        model_size: tuple[int, int],
        pictures: Pictures,
        state: StateSource = NO_STATE,
    ) -> AbstractAsyncContextManager[BankLease]:
        """Lend the session's bank to the caller, who holds the session's lock meanwhile.

        A bank of another version or memory is a miss: `pictures` is then awaited, and must give
        the picture of each entry, in the order of `memory.entries`; a model that carries a state
        begins with the one that `state` tells.
        """
        ...

    @property
    def calls(self) -> Sequence[CallTimes]:
        """Return the times of its calls to other processes, for the metrics."""
        ...

    def vitals(self) -> EngineVitals:
        """Return what the engine does now, for the metrics."""
        ...

    @property
    def lacks_banks(self) -> bool:
        """Whether leases are to be short, since those there are take half of all banks' bytes."""
        ...

    async def discard(self, session_id: str) -> None:
        """Drop the session's bank, if there is one; the caller holds the session's lock."""
        ...
