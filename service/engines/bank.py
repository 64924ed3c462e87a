"""Banks in this process's memory, each the tensors of one session's entries, and a cache of them.

A model that carries a state has it beside the entries.

Letters: N slots, n the lowest ones that are in use, O objects, T tokens, C channels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from model.core.contract import ModelSpec
from model.core.memory import Memory
from service.engines.states import ModelState, make_empty_state
from service.errors import Overloaded

Tensors = Mapping[str, NDArray[Any]]


class EmbeddedBank:
    """One session's tensors, and the memory they were made of. Only its lease writes them.

    Its arrays are never used again for another bank: the thread of a cancelled clip may still
    write into them.
    """

    def __init__(
        self, spec: ModelSpec, size: tuple[int, int], memory: Memory, object_ids: Sequence[int]
    ) -> None:
        self.memory = memory
        self.object_ids = tuple(object_ids)
        self.size = size
        self.version = 0
        slots, objects = memory.capacity, len(object_ids)
        self._tensors = {
            tensor.name: np.zeros((slots, *tensor.slot_shape(size, objects=objects)), tensor.dtype)
            for tensor in spec.bank
        }
        self.state: ModelState = make_empty_state(
            spec, size, objects=objects
        )  # before the next clip
        self.nbytes = count_bank_bytes(spec, size, memory, object_ids)

    def holds(self, memory: Memory, object_ids: Sequence[int], size: tuple[int, int]) -> bool:
        """Return whether the tensors are those of this memory and these objects in this order."""
        mine = (self.memory, self.object_ids, self.size)
        return mine == (memory, tuple(object_ids), size)

    def write(self, slot: int, entry: Tensors) -> None:
        """Write one entry, (T, C) or (O, T, C) by name, into its slot."""
        for name, tensor in self._tensors.items():
            tensor[slot] = entry[name]

    def inputs(self, *, whole: bool = False) -> dict[str, NDArray[Any]]:
        """Return the bank's inputs of `segment`, B = 1: views of the n lowest slots, or of all."""
        used = 1 + max(entry.slot for entry in self.memory.entries)
        used = self.memory.capacity if whole else used
        tensors = {name: tensor[None, :used] for name, tensor in self._tensors.items()}
        valid = self.memory.entry_valid(self.object_ids)  # (O, N)
        ages = self.memory.ages()[None, :used]  # (N,) -> (1, n)
        state = {name: tensor[None] for name, tensor in self.state.items()}
        return {
            **tensors,
            **state,
            "age": ages,
            "entry_valid": np.ascontiguousarray(valid[None, :, :used]),
        }


def count_bank_bytes(
    spec: ModelSpec, size: tuple[int, int], memory: Memory, object_ids: Sequence[int]
) -> int:
    """Return the bytes of a bank with all its slots, and of the state beside them."""
    objects = len(object_ids)
    slots = memory.capacity * spec.slot_bytes(size, objects=objects)
    return slots + spec.state_bytes(size, objects=objects)


@dataclass(slots=True)
class BankUses:
    """How often a model's bank was there when a session needed it, and how often it was made."""

    hits: int = 0
    rebuilds: int = 0


class Kept(Protocol):
    """What a cache needs to know of a bank."""

    @property
    def version(self) -> int: ...

    @property
    def memory(self) -> Memory: ...

    @property
    def nbytes(self) -> int: ...


B = TypeVar("B", bound=Kept)


class BankCache(Generic[B]):
    """The banks of the sessions served last, at most `limit_bytes` with those on lease.

    A bank that is larger than the limit is admitted if no other is on lease, and never kept.
    """

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[str, B] = OrderedDict()  # least recently used first
        self._kept_bytes = 0
        self._leased_bytes = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of all banks, kept or on lease."""
        return self._kept_bytes + self._leased_bytes

    @property
    def is_half_leased(self) -> bool:
        """Whether banks on lease take more than half of what all may take."""
        return 2 * self._leased_bytes > self._limit_bytes

    def take(self, session_id: str, *, version: int, memory: Memory) -> B | None:
        """Take the session's bank on lease; return None unless it is of this version and memory."""
        bank = self._kept.get(session_id)
        if bank is None or bank.version != version or bank.memory != memory:
            return None
        self.drop(session_id)
        self._leased_bytes += bank.nbytes
        return bank

    def reserve(self, nbytes: int) -> None:
        """Count a new bank on lease; raise Overloaded if those on lease leave too few bytes."""
        while self._kept and self.nbytes + nbytes > self._limit_bytes:
            self.drop(next(iter(self._kept)))
        if self._leased_bytes and self.nbytes + nbytes > self._limit_bytes:
            raise Overloaded("all memory for banks is in use")
        self._leased_bytes += nbytes

    def release(self, nbytes: int) -> None:
        """Count a bank of `nbytes` as no longer on lease."""
        self._leased_bytes -= nbytes

    def keep(self, session_id: str, bank: B) -> None:
        """Keep a bank that is no longer on lease, as the one used last, if there is room."""
        self.drop(session_id)
        if self.nbytes + bank.nbytes <= self._limit_bytes:
            self._kept[session_id] = bank
            self._kept_bytes += bank.nbytes

    def drop(self, session_id: str) -> None:
        """Drop the session's bank, if it is kept."""
        bank = self._kept.pop(session_id, None)
        if bank is not None:
            self._kept_bytes -= bank.nbytes
