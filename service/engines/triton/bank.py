"""One session's bank as requests to Triton take it, in either storage.

Letters: B entries of a batch, L frames, N slots, O objects, h and w the model's size. In a request
a session has B = 1. O and N are those of a bucket (decision 28): the surplus is marked not valid.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.contract import BATCH_SIZE, ModelSpec, entry_output
from model.core.memory import Entry, Memory
from service.engines.base import TRITON, ClipMasks, EntryPicture
from service.engines.pictures import MASKS_PER_BATCH, arrange_masks
from service.engines.triton.client import TritonClient, UnknownRegion
from service.engines.triton.layout import Layout, TensorLocation
from service.engines.triton.models import datatype

TensorLocations = Mapping[str, TensorLocation]


class BankStorage(Protocol):
    """Memory for the tensors of one session: a shared region, or a buffer of this process."""

    @property
    def nbytes(self) -> int: ...

    def array(self, location: TensorLocation) -> NDArray[Any]:
        """Return the tensor at a location: a view to read and to write."""
        ...

    def mark_dirty(self) -> None:
        """Say that the tensors are in doubt from now on."""
        ...

    async def announce(self) -> None:
        """Register with a Triton that was restarted; raise NoSharedMemory, EngineUnavailable."""
        ...

    def input(self, name: str, location: TensorLocation) -> InferInput:
        """Return a request's input that is the tensor at a location."""
        ...

    def output(self, name: str, location: TensorLocation) -> InferRequestedOutput:
        """Return a request's output that is to be written to a location."""
        ...

    def collect(self, result: InferResult, locations: TensorLocations) -> None:
        """Write a request's outputs to their locations, unless Triton has done so."""
        ...


class _Remembered(NamedTuple):
    entry: Entry
    picture: EntryPicture


class TritonBank:
    """A bank in its storage. Only its lease uses it."""

    def __init__(
        self,
        client: TritonClient,
        spec: ModelSpec,
        storage: BankStorage,
        layout: Layout,
        memory: Memory,
        object_ids: Sequence[int],
    ) -> None:
        self._client, self._spec = client, spec
        self.storage, self.layout = storage, layout
        self.memory, self.object_ids = memory, tuple(object_ids)
        self.version = 0

    @property
    def nbytes(self) -> int:
        """Return the bytes of the storage."""
        return self.storage.nbytes

    @property
    def weights_sha256(self) -> str:
        """Return the digest of the weights that its entries were made with."""
        return self._spec.weights_sha256

    def holds(self, memory: Memory, object_ids: Sequence[int]) -> bool:
        """Return whether the tensors are those of this memory and these objects in this order."""
        return (self.memory, self.object_ids) == (memory, tuple(object_ids))

    async def segment(self, frames: NDArray[np.uint8]) -> ClipMasks:
        """Return the masks of frames (L, h, w, 3); keep the last one's entry in the storage."""
        self.storage.mark_dirty()
        layout, length = self.layout, len(frames)
        inputs = {
            "frames": layout.clip("frames", length),
            **{tensor.name: layout.locations[tensor.name] for tensor in self._spec.bank},
            "age": layout.locations["age"],
            "entry_valid": layout.locations["entry_valid"],
        }
        self.storage.array(inputs["frames"])[:] = frames
        age = self.storage.array(inputs["age"])  # (N,), -1 in empty slots
        valid = self.storage.array(inputs["entry_valid"])  # (O, N)
        slots, objects = self.memory.capacity, len(self.object_ids)
        age[:], valid[:] = -1, False
        age[:slots] = self.memory.ages()
        valid[:objects, :slots] = self.memory.entry_valid(self.object_ids)
        outputs = {name: layout.clip(name, length) for name in ("masks", "confidence")}
        outputs[BATCH_SIZE.name] = layout.locations[BATCH_SIZE.name]
        for tensor in self._spec.bank:
            name = entry_output(tensor.name)
            outputs[name] = layout.locations[name]
        asked = [self.storage.input(name, location) for name, location in inputs.items()]
        begun = time.monotonic()
        await self._infer("segment", asked, outputs)
        batch_size = int(self.storage.array(outputs[BATCH_SIZE.name])[0])
        return ClipMasks(
            self.storage.array(outputs["masks"])[:, :objects].copy(),
            self.storage.array(outputs["confidence"])[:, :objects].copy(),
            batch_size=batch_size,
            weights_sha256=self.weights_sha256,
            runtime=TRITON,
            # The wait in Triton's queue included; what ran together is shared.
            engine_s=(time.monotonic() - begun) / max(1, batch_size),
        )

    def remember(self, after: Memory) -> None:
        """Write the entry of the clip segmented last into the slot of `after.newest`."""
        for tensor in self._spec.bank:
            made = self.storage.array(self.layout.locations[entry_output(tensor.name)])
            self.storage.array(self.layout.slots(tensor.name, after.newest.slot))[:] = made
        self._clear_unknown(after.newest)
        self.memory = after

    async def rebuild(self, pictures: Sequence[EntryPicture]) -> None:
        """Fill the bank with the entries of its memory; the pictures are in the same order."""
        self.storage.mark_dirty()
        known = len(self.object_ids)
        for batch in self._batches(pictures):
            frames = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
            shape = (len(batch), self.layout.shape.objects, *self.layout.shape.size)
            masks = np.zeros(shape, np.uint8)  # (B, O, h, w)
            for row, pair in enumerate(batch):
                masks[row, :known] = arrange_masks(*pair, self.object_ids)
            outputs = {
                tensor.name: self.layout.slots(tensor.name, batch[0].entry.slot, len(batch))
                for tensor in self._spec.bank
            }
            inputs = [inline_input("frame", frames), inline_input("masks", masks)]
            await self._infer("memorize", inputs, outputs)
            for entry, _ in batch:
                self._clear_unknown(entry)

    async def _infer(
        self, verb: str, inputs: Sequence[InferInput], outputs: TensorLocations
    ) -> None:
        """Run one graph and collect its outputs; errors as `TritonClient.infer`."""
        asked = [self.storage.output(name, location) for name, location in outputs.items()]
        try:
            result = await self._client.infer(self._spec, verb, inputs, asked)
        except UnknownRegion:  # decision 27: Triton was restarted, so the request did not run
            await self.storage.announce()
            result = await self._client.infer(self._spec, verb, inputs, asked)
        self.storage.collect(result, outputs)

    def _batches(self, pictures: Sequence[EntryPicture]) -> Iterator[list[_Remembered]]:
        """Yield the entries with their pictures in runs of slots, so each run is one output."""
        most = min(max(self._spec.buckets.batch), MASKS_PER_BATCH // self.layout.shape.objects)
        pairs = [_Remembered(*p) for p in zip(self.memory.entries, pictures, strict=True)]
        batch: list[_Remembered] = []
        for pair in sorted(pairs, key=lambda pair: pair.entry.slot):
            if batch and (len(batch) >= most or pair.entry.slot != batch[-1].entry.slot + 1):
                yield batch
                batch = []
            batch.append(pair)
        yield batch

    def _clear_unknown(self, entry: Entry) -> None:
        """Write zeros for the objects that an entry does not know."""
        unknown = [row for row, name in enumerate(self.object_ids) if name not in entry.object_ids]
        for tensor in self._spec.bank:
            if tensor.per_object and unknown:
                self.storage.array(self.layout.slots(tensor.name, entry.slot))[0, unknown] = 0


def inline_input(name: str, values: NDArray[Any]) -> InferInput:
    """Return an input that is sent with its request; its first axis is B."""
    made = InferInput(name, values.shape, datatype(values.dtype))
    made.set_data_from_numpy(values)
    return made
