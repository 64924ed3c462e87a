"""Banks in this process, sent with each request: for a Triton that shares no memory with us."""

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
from service.engines.triton.layout import TensorLocation, choose_shape, lay_out


class InlineStorage:
    """A buffer that holds one bank, laid out as a region is."""

    def __init__(self, nbytes: int) -> None:
        self._buffer = np.zeros(nbytes, np.uint8)

    @property
    def nbytes(self) -> int:
        return self._buffer.nbytes

    def array(self, location: TensorLocation) -> NDArray[Any]:
        flat = self._buffer[location.offset : location.offset + location.nbytes]
        return flat.view(location.dtype).reshape(location.shape)

    def mark_dirty(self) -> None:
        """Do nothing: a bank that is not kept is dropped."""

    async def announce(self) -> None:
        """Do nothing: Triton does not know buffers."""

    def input(self, name: str, location: TensorLocation) -> InferInput:
        return inline_input(name, self.array(location)[None])

    def output(self, name: str, location: TensorLocation) -> InferRequestedOutput:
        return InferRequestedOutput(name)

    def collect(self, result: InferResult, locations: TensorLocations) -> None:
        for name, location in locations.items():
            self.array(location)[:] = result.as_numpy(name).reshape(location.shape)


class InlineBanks:
    """The banks of this process."""

    def __init__(self, client: TritonClient, cache: BankCache[TritonBank]) -> None:
        self._client, self._cache = client, cache

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
        """Return a bank for the session and whether it holds this memory; raise Overloaded."""
        spec = self._client.served.spec
        shape = choose_shape(
            spec, model_size, slots=memory.capacity, objects=len(object_ids), frames=frames
        )
        layout = lay_out(spec, shape)
        kept = self._cache.take(session_id, version=version, memory=memory)
        if kept is not None:
            fits = (kept.layout, kept.weights_sha256) == (layout, spec.weights_sha256)
            if fits and kept.holds(memory, object_ids):
                return kept, True
            self._cache.release(kept.nbytes)
        self._cache.reserve(layout.nbytes)
        storage = InlineStorage(layout.nbytes)
        return TritonBank(self._client, spec, storage, layout, memory, object_ids), False

    def keep(self, session_id: str, bank: TritonBank, *, version: int) -> None:
        """Keep the bank as that of this version of the session."""
        bank.version = version
        self._cache.release(bank.nbytes)
        self._cache.keep(session_id, bank)

    def give_up(self, bank: TritonBank) -> None:
        """Drop a bank that is of no use any more."""
        self._cache.release(bank.nbytes)

    def discard(self, session_id: str) -> None:
        """Drop the session's bank, if there is one."""
        self._cache.drop(session_id)
