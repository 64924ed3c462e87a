"""One session's bank as Triton is given it, wherever its tensors lie.

Letters: B entries of a batch, L frames, N slots, O objects, h and w the model's size. In a request
a session has B = 1. O and N are those of a bucket: what is too many is marked as not valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.contract import BATCH_SIZE, ModelSpec, entry_output
from model.core.memory import Entry, Memory
from service.engines.base import ClipMasks, Picture
from service.engines.pictures import MASKS_PER_BATCH, arranged
from service.engines.triton.client import TritonClient, UnknownRegion
from service.engines.triton.layout import Layout, TensorLocation
from service.engines.triton.models import datatype

TensorLocations = Mapping[str, TensorLocation]


class BankStorage(Protocol):
    """Where the tensors of one session lie."""

    @property
    def nbytes(self) -> int: ...

    def array(self, location: TensorLocation) -> NDArray[Any]:
        """The tensor at a place, to read and to write."""
        ...

    def begin(self) -> None:
        """What lies here is in doubt from now on."""
        ...

    async def announce(self) -> None:
        """Triton knows of the room again; NoSharedMemory, EngineUnavailable."""
        ...

    def input(self, name: str, location: TensorLocation) -> InferInput:
        """The tensor at a place, as an input of a request."""
        ...

    def output(self, name: str, location: TensorLocation) -> InferRequestedOutput:
        """An output of a request that shall come to a place."""
        ...

    def collect(self, result: InferResult, locations: TensorLocations) -> None:
        """The outputs are at their places."""
        ...


class _Remembered(NamedTuple):
    entry: Entry
    picture: Picture


class TritonBank:
    """A bank in a room. Only its lease's holder uses it."""

    def __init__(
        self,
        client: TritonClient,
        spec: ModelSpec,
        storage: BankStorage,
        layout: Layout,
        memory: Memory,
        object_ids: Sequence[int],
        *,
        deadline_s: float,
    ) -> None:
        self._client, self._spec = client, spec
        self.storage, self.layout = storage, layout
        self.memory, self.object_ids = memory, tuple(object_ids)
        self.version = 0
        self._deadline_s = deadline_s

    @property
    def nbytes(self) -> int:
        """Bytes of the room."""
        return self.storage.nbytes

    @property
    def weights_sha256(self) -> str:
        """The weights that its entries were made with."""
        return self._spec.weights_sha256

    def holds(self, memory: Memory, object_ids: Sequence[int]) -> bool:
        """Whether these tensors are those of this memory, for these objects in this order."""
        return (self.memory, self.object_ids) == (memory, tuple(object_ids))

    async def segment(self, frames: NDArray[np.uint8]) -> ClipMasks:
        """The masks of frames (L, h, w, 3); the last one's entry waits in the room."""
        self.storage.begin()
        layout, length = self.layout, len(frames)
        inputs = {
            "frames": layout.clip("frames", length),
            **{tensor.name: layout.locations[tensor.name] for tensor in self._spec.bank},
            "age": layout.locations["age"],
            "entry_valid": layout.locations["entry_valid"],
        }
        self.storage.array(inputs["frames"])[:] = frames
        self._write_ages()
        outputs = {name: layout.clip(name, length) for name in ("masks", "confidence")}
        outputs[BATCH_SIZE.name] = layout.locations[BATCH_SIZE.name]
        for tensor in self._spec.bank:
            name = entry_output(tensor.name)
            outputs[name] = layout.locations[name]
        asked = [self.storage.input(name, location) for name, location in inputs.items()]
        await self._infer("segment", asked, outputs)
        return self._clip_masks(outputs)

    def remember(self, after: Memory) -> None:
        """The entry that waits in the room becomes the newest of `after`."""
        for tensor in self._spec.bank:
            made = self.storage.array(self.layout.locations[entry_output(tensor.name)])
            self.storage.array(self.layout.slots(tensor.name, after.newest.slot))[:] = made
        self._forget_unknown(after.newest)
        self.memory = after

    async def rebuild(self, pictures: Sequence[Picture]) -> None:
        """Fill the bank with the entries of its memory, made of their pictures in that order."""
        self.storage.begin()
        for batch in self._batches(pictures):
            frames = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
            masks = np.stack([self._padded(*pair) for pair in batch])  # (B, O, h, w)
            outputs = {
                tensor.name: self.layout.slots(tensor.name, batch[0].entry.slot, len(batch))
                for tensor in self._spec.bank
            }
            inputs = [inline_input("frame", frames), inline_input("masks", masks)]
            await self._infer("memorize", inputs, outputs)
            for entry, _ in batch:
                self._forget_unknown(entry)

    async def _infer(
        self, verb: str, inputs: Sequence[InferInput], outputs: TensorLocations
    ) -> None:
        asked = [self.storage.output(name, location) for name, location in outputs.items()]
        try:
            result = await self._ask(verb, inputs, asked)
        except UnknownRegion:  # Triton was started anew, and has not run it
            await self.storage.announce()
            result = await self._ask(verb, inputs, asked)
        self.storage.collect(result, outputs)

    async def _ask(
        self, verb: str, inputs: Sequence[InferInput], outputs: Sequence[InferRequestedOutput]
    ) -> InferResult:
        return await self._client.infer(
            self._spec, verb, inputs, outputs, deadline_s=self._deadline_s
        )

    def _write_ages(self) -> None:
        """The ages, -1 in slots that are empty, and which entries know which objects."""
        age = self.storage.array(self.layout.locations["age"])  # (N,)
        valid = self.storage.array(self.layout.locations["entry_valid"])  # (O, N)
        slots, objects = self.memory.capacity, len(self.object_ids)
        age[:], valid[:] = -1, False
        age[:slots] = self.memory.ages()
        valid[:objects, :slots] = self.memory.entry_valid(self.object_ids)

    def _clip_masks(self, outputs: TensorLocations) -> ClipMasks:
        objects = len(self.object_ids)
        masks = self.storage.array(outputs["masks"])[:, :objects]
        confidence = self.storage.array(outputs["confidence"])[:, :objects]
        batch_size = int(self.storage.array(outputs[BATCH_SIZE.name])[0])
        return ClipMasks(
            masks.copy(),
            confidence.copy(),
            batch_size=batch_size,
            weights_sha256=self.weights_sha256,
        )

    def _batches(self, pictures: Sequence[Picture]) -> Iterator[list[_Remembered]]:
        """The entries with their pictures: slots in a row, so that outputs go there at once."""
        most = min(max(self._spec.buckets.batch), MASKS_PER_BATCH // self.layout.shape.objects)
        pairs = [_Remembered(*p) for p in zip(self.memory.entries, pictures, strict=True)]
        batch: list[_Remembered] = []
        for pair in sorted(pairs, key=lambda pair: pair.entry.slot):
            if batch and (len(batch) >= most or pair.entry.slot != batch[-1].entry.slot + 1):
                yield batch
                batch = []
            batch.append(pair)
        yield batch

    def _padded(self, entry: Entry, picture: Picture) -> NDArray[np.uint8]:
        """The masks (O, h, w) in the order of object_ids; the rest is empty."""
        masks = np.zeros((self.layout.shape.objects, *self.layout.shape.size), np.uint8)
        masks[: len(self.object_ids)] = arranged(entry, picture, self.object_ids)
        return masks

    def _forget_unknown(self, entry: Entry) -> None:
        """Zeros for the objects that an entry does not know."""
        unknown = [row for row, name in enumerate(self.object_ids) if name not in entry.object_ids]
        for tensor in self._spec.bank:
            if tensor.per_object and unknown:
                self.storage.array(self.layout.slots(tensor.name, entry.slot))[0, unknown] = 0


def inline_input(name: str, values: NDArray[Any]) -> InferInput:
    """An input that is sent with its request; its first axis is B."""
    made = InferInput(name, values.shape, datatype(values.dtype))
    made.set_data_from_numpy(values)
    return made
