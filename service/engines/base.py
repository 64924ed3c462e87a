"""What an engine promises. Letters: L frames of a clip, N entries, O objects, h and w model size.

An engine keeps a bank for each session it has served lately. A bank is a cache: whoever leaves
its lease without `commit` has discarded it, and the next lease rebuilds it from the memory.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory


class Picture(NamedTuple):
    """What an entry is made of, at the model's size; the masks in the order of its object_ids."""

    frame: NDArray[np.uint8]  # (h, w, 3) RGB
    masks: NDArray[np.uint8]  # (O, h, w)


Pictures = Callable[[], Awaitable[Sequence[Picture]]]


@dataclass(frozen=True, slots=True)
class ClipMasks:
    """The masks of one clip, in the order of the object_ids it was asked with."""

    masks: NDArray[np.uint8]  # (L, O, h, w) soft masks
    confidence: NDArray[np.float32]  # (L, O)
    batch_size: int  # clips that the model ran together, this one included
    weights_sha256: str  # of the model


class BankLease(Protocol):
    """The only writer of one session's bank, until it is left."""

    async def segment(
        self, frames: NDArray[np.uint8], *, before: Memory, object_ids: Sequence[int]
    ) -> ClipMasks:
        """The masks of frames (L, h, w, 3), seen from the memory `before`.

        The bank stays as it is. The first call rebuilds it where that is needed. Raises
        EngineUnavailable beyond the deadline and Overloaded where too many clips wait.
        """
        ...

    def remember(self, after: Memory) -> None:  # decision 49
        """The last frame of the clip that was segmented becomes the newest entry of the bank.

        It goes into slot `after.newest.slot`, with zeros for the objects that this entry does not
        know. A clip of which nothing is to be remembered is not followed by this call.
        """
        ...

    def commit(self, version: int) -> None:
        """The bank is that of this version of the session: it is kept when the lease is left."""
        ...


class Engine(Protocol):
    """Runs one model for many sessions."""

    @property
    def spec(self) -> ModelSpec: ...

    async def ready(self) -> None:
        """Nothing, once the model can answer; EngineUnavailable otherwise."""
        ...

    def lease(
        self,
        session_id: str,
        *,
        version: int,
        memory: Memory,
        model_size: tuple[int, int],
        pictures: Pictures,
    ) -> AbstractAsyncContextManager[BankLease]:
        """The session's bank, exclusively; Overloaded if it is not free within the deadline.

        A bank of another version or memory is a miss: `pictures` is then awaited, and must give
        the picture of each entry, in the order of `memory.entries`.
        """
        ...

    async def discard(self, session_id: str) -> None:
        """Forget the session's bank, if there is one: after a deletion, or to free its bytes."""
        ...
