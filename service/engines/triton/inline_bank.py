"""Banks in this process, sent with each request: for a Triton elsewhere, or without sharing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.memory import Memory
from service.engines.bank import BankCache
from service.engines.triton.bank import TensorLocations, TritonBank, inline_input
from service.engines.triton.client import TritonClient
from service.engines.triton.layout import TensorLocation, layout_of, shape_of


class InlineStorage:
    """A buffer, as the place of a bank. Laid out as a region is."""

    def __init__(self, nbytes: int) -> None:
        self._buffer = np.zeros(nbytes, np.uint8)

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    def array(self, location: TensorLocation) -> NDArray[Any]:
        flat = self._buffer[location.offset : location.offset + location.nbytes]
        return flat.view(location.dtype).reshape(location.shape)

    def begin(self) -> None:
        """Nothing: whoever does not keep a bank forgets it."""

    async def announce(self) -> None:
        """Nothing: Triton need not know."""

    def input(self, name: str, location: TensorLocation) -> InferInput:
        return inline_input(name, self.array(location)[None])

    def output(self, name: str, location: TensorLocation) -> InferRequestedOutput:
        return InferRequestedOutput(name)

    def collect(self, result: InferResult, locations: TensorLocations) -> None:
        for name, location in locations.items():
            self.array(location)[:] = result.as_numpy(name).reshape(location.shape)


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
        spec = self._client.served.spec
        shape = shape_of(
            spec, model_size, slots=memory.capacity, objects=len(object_ids), frames=frames
        )
        layout = layout_of(spec, shape)
        kept = self._cache.take(session_id, version=version, memory=memory)
        if kept is not None:
            fits = (kept.layout, kept.weights_sha256) == (layout, spec.weights_sha256)
            if fits and kept.holds(memory, object_ids):
                return kept, True
            self._cache.release(kept.nbytes)
        self._cache.reserve(layout.nbytes)
        bank = TritonBank(
            self._client,
            spec,
            InlineStorage(layout.nbytes),
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
