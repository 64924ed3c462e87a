"""Banks in this process, sent with each request: for a Triton elsewhere, or without sharing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.memory import Memory
from service.engines.bank import BankCache
from service.engines.triton.bank import Places, TritonBank, inline_input
from service.engines.triton.client import TritonClient
from service.engines.triton.layout import Place, layout_of, shape_of


class InlineRoom:
    """A buffer, as the place of a bank. Laid out as a region is."""

    def __init__(self, nbytes: int) -> None:
        self._buffer = np.zeros(nbytes, np.uint8)

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    def array(self, place: Place) -> NDArray[Any]:
        flat = self._buffer[place.offset : place.offset + place.nbytes]
        return flat.view(place.dtype).reshape(place.shape)

    def begin(self) -> None:
        """Nothing: whoever does not keep a bank forgets it."""

    async def announce(self) -> None:
        """Nothing: Triton need not know."""

    def input(self, name: str, place: Place) -> InferInput:
        return inline_input(name, self.array(place)[None])

    def output(self, name: str, place: Place) -> InferRequestedOutput:
        return InferRequestedOutput(name)

    def collect(self, result: InferResult, places: Places) -> None:
        for name, place in places.items():
            self.array(place)[:] = result.as_numpy(name).reshape(place.shape)


class InlineBanks:
    """The banks of this process."""

    def __init__(
        self, client: TritonClient, cache: BankCache[TritonBank], *, deadline_s: float
    ) -> None:
        self._client, self._cache = client, cache
        self._deadline_s = deadline_s

    async def take(
        self,
        session_id: str,
        *,
        version: int,
        memory: Memory,
        object_ids: Sequence[int],
        model_size: tuple[int, int],
        frames: int,
    ) -> tuple[TritonBank, bool]:
        """A bank for the session, and whether it is that of this memory already; Overloaded."""
        card = self._client.served.card
        shape = shape_of(
            card, model_size, slots=memory.capacity, objects=len(object_ids), frames=frames
        )
        layout = layout_of(card, shape)
        kept = self._cache.take(session_id, version=version, memory=memory)
        if kept is not None:
            fits = (kept.layout, kept.weights_sha256) == (layout, card.weights_sha256)
            if fits and kept.holds(memory, object_ids):
                return kept, True
            self._cache.release(kept.nbytes)
        self._cache.reserve(layout.nbytes)
        bank = TritonBank(
            self._client,
            card,
            InlineRoom(layout.nbytes),
            layout,
            memory,
            object_ids,
            deadline_s=self._deadline_s,
        )
        return bank, False

    def keep(self, session_id: str, bank: TritonBank, *, version: int) -> None:
        """The bank is that of this version of the session."""
        bank.version = version
        self._cache.release(bank.nbytes)
        self._cache.keep(session_id, bank)

    def give_up(self, bank: TritonBank) -> None:
        """The bank is of no use any more."""
        self._cache.release(bank.nbytes)

    def discard(self, session_id: str) -> None:
        """The session's bank is gone."""
        self._cache.drop(session_id)
