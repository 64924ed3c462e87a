"""One session's bank as requests to Triton take it, in either storage.

Letters: B entries of a batch, L frames, N slots, O objects, h and w the model's size. In a request
a session has B = 1. O and N are those of a bucket (decision 28): the surplus is marked not valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult

from model.core.contract import BATCH_SIZE, ModelSpec, entry_output, next_output
from model.core.memory import Entry, Memory
from service.engines.base import TRITON, ClipMasks, EntryPicture
from service.engines.pictures import (
    MASKS_PER_BATCH,
    arrange_masks,
    made_by_memorize,
    round_masks,
)
from service.engines.states import ModelState, make_empty_state
from service.engines.triton.client import TritonClient, UnknownRegion
from service.engines.triton.layout import Layout, TensorLocation
from service.engines.triton.models import name_datatype
from service.errors import EngineUnavailable

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


class _ClipEnd(NamedTuple):
    """What a clip leaves for `memorize`, if it is remembered."""

    frame: NDArray[np.uint8]  # (h, w, 3), the last one
    masks: NDArray[np.uint8]  # (O, h, w), as they were answered
    before: ModelState  # the clip


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
        self._client, self.spec = client, spec
        self.storage, self.layout = storage, layout
        self.memory, self.object_ids = memory, tuple(object_ids)
        self.version = 0
        self._end: _ClipEnd | None = None  # of the clip that was segmented last

    @property
    def nbytes(self) -> int:
        """Return the bytes of the storage."""
        return self.storage.nbytes

    @property
    def weights_sha256(self) -> str:
        """Return the digest of the weights that its entries were made with."""
        return self.spec.weights_sha256

    def holds(self, memory: Memory, object_ids: Sequence[int]) -> bool:
        """Return whether the tensors are those of this memory and these objects in this order."""
        return (self.memory, self.object_ids) == (memory, tuple(object_ids))

    async def segment(self, frames: NDArray[np.uint8]) -> ClipMasks:
        """Return the masks of frames (L, h, w, 3); keep the last one's entry in the storage."""
        self.storage.mark_dirty()
        layout, length = self.layout, len(frames)
        inputs = {
            "frames": layout.clip("frames", length),
            **{tensor.name: layout.locations[tensor.name] for tensor in self.spec.bank},
            **{tensor.name: layout.locations[tensor.name] for tensor in self.spec.state},
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
        if self.spec.entry_by == "segment":
            names = [entry_output(tensor.name) for tensor in self.spec.bank]
            outputs |= {name: layout.locations[name] for name in names}
        outputs |= self._next_state()
        asked = [self.storage.input(name, location) for name, location in inputs.items()]
        took_s = await self._infer("segment", asked, outputs)
        batch_size = int(self.storage.array(outputs[BATCH_SIZE.name])[0])
        masks = self.storage.array(outputs["masks"])[:, :objects].copy()
        self._end = _ClipEnd(frames[-1], masks[-1], before=self._read_state())
        self._take_next_state()
        return ClipMasks(
            masks,
            self.storage.array(outputs["confidence"])[:, :objects].copy(),
            batch_size=batch_size,
            weights_sha256=self.weights_sha256,
            runtime=TRITON,
            # The wait in Triton's queue included; what ran together is shared.
            engine_s=took_s / max(1, batch_size),
        )

    async def remember(self, after: Memory) -> None:
        """Write the entry of the clip segmented last into the slot of `after.newest`.

        Where `memorize` makes all entries, its state takes the place of the clip's.
        """
        newest, end = after.newest, self._end
        assert end is not None, "a clip is segmented before it is remembered"
        if made_by_memorize(self.spec, newest, self.object_ids):
            masks = round_masks(self.spec, end.masks, newest, self.object_ids)
            await self._memorize(end.frame, masks, end.before, slot=newest.slot)
            if self.spec.entry_by == "memorize":
                self._take_next_state()
        else:
            for tensor in self.spec.bank:
                made = self.storage.array(self.layout.locations[entry_output(tensor.name)])
                self.storage.array(self.layout.slots(tensor.name, newest.slot))[:] = made
        self._clear_unknown(newest)
        self.memory, self._end = after, None

    def state(self) -> ModelState:
        """Return a copy of the state after the clip, the rows of its objects."""
        known = len(self.object_ids)
        return {name: values[:known] for name, values in self._read_state().items()}

    async def rebuild_state(
        self, stored: ModelState | None, again: Sequence[tuple[Entry, EntryPicture]]
    ) -> None:
        """Begin with the stored state, or zeros, and let `memorize` tell it these entries."""
        begin = self._empty_state()
        for name, values in (stored or {}).items():
            begin[name][: len(self.object_ids)] = values
        self._write_state(begin)
        for entry, picture in again:
            masks = arrange_masks(entry, picture, self.object_ids)
            await self._memorize(picture.frame, masks, self._read_state(), slot=entry.slot)
            self._take_next_state()
            self._clear_unknown(entry)

    async def rebuild(self, pictures: Sequence[EntryPicture]) -> None:
        """Fill the bank with the entries of its memory; the pictures are in the same order.

        What `memorize` makes of an entry depends on its picture alone: the state is any.
        """
        self.storage.mark_dirty()
        blank = self._empty_state()
        known = len(self.object_ids)
        for batch in self._batches(pictures):
            frames = np.stack([picture.frame for _, picture in batch])  # (B, h, w, 3)
            shape = (len(batch), self.layout.shape.objects, *self.layout.shape.size)
            masks = np.zeros(shape, np.uint8)  # (B, O, h, w)
            for row, pair in enumerate(batch):
                masks[row, :known] = arrange_masks(*pair, self.object_ids)
            outputs = {
                tensor.name: self.layout.slots(tensor.name, batch[0].entry.slot, len(batch))
                for tensor in self.spec.bank
            }
            inputs = [inline_input("frame", frames), inline_input("masks", masks)]
            for name, values in blank.items():
                inputs.append(
                    inline_input(name, np.zeros((len(batch), *values.shape), values.dtype))
                )
            await self._infer("memorize", inputs, outputs)
            for entry, _ in batch:
                self._clear_unknown(entry)

    async def _memorize(
        self, frame: NDArray[np.uint8], known: NDArray[np.uint8], before: ModelState, *, slot: int
    ) -> None:
        """Make an entry of a frame (h, w, 3) with masks (O, h, w) in a slot, and the next state."""
        masks = np.zeros((self.layout.shape.objects, *self.layout.shape.size), np.uint8)
        masks[: len(known)] = known
        inputs = [inline_input("frame", frame[None]), inline_input("masks", masks[None])]
        for name, values in before.items():
            inputs.append(inline_input(name, values[None]))
        slots = {tensor.name: self.layout.slots(tensor.name, slot) for tensor in self.spec.bank}
        await self._infer("memorize", inputs, {**slots, **self._next_state()})

    def _next_state(self) -> dict[str, TensorLocation]:
        """Return where both graphs write the state after a frame, by output."""
        names = [next_output(tensor.name) for tensor in self.spec.state]
        return {name: self.layout.locations[name] for name in names}

    def _empty_state(self) -> dict[str, NDArray[Any]]:
        shape = self.layout.shape
        return make_empty_state(self.spec, shape.size, objects=shape.objects)

    def _read_state(self) -> ModelState:
        """Return a copy of the state, all rows of the bucket."""
        names = [tensor.name for tensor in self.spec.state]
        return {name: self.storage.array(self.layout.locations[name]).copy() for name in names}

    def _write_state(self, state: ModelState) -> None:
        for name, values in state.items():
            self.storage.array(self.layout.locations[name])[:] = values

    def _take_next_state(self) -> None:
        """Let what a graph wrote be the state that the next one takes."""
        for tensor in self.spec.state:
            made = self.storage.array(self.layout.locations[next_output(tensor.name)])
            self.storage.array(self.layout.locations[tensor.name])[:] = made

    async def _infer(
        self, verb: str, inputs: Sequence[InferInput], outputs: TensorLocations
    ) -> float:
        """Run one graph, collect its outputs, and return the seconds it took.

        Raise as `TritonClient.infer` does, and EngineUnavailable where a region stays unknown.
        """
        asked = [self.storage.output(name, location) for name, location in outputs.items()]
        try:
            answer = await self._client.infer(self.spec, verb, inputs, asked)
        except UnknownRegion:  # decision 27: Triton was restarted, so the request did not run
            await self.storage.announce()
            try:
                answer = await self._client.infer(self.spec, verb, inputs, asked)
            except UnknownRegion as error:
                raise EngineUnavailable(f"Triton forgot a region again: {error}") from error
        self.storage.collect(answer.result, outputs)
        return answer.took_s

    def _batches(self, pictures: Sequence[EntryPicture]) -> Iterator[list[_Remembered]]:
        """Yield the entries with their pictures in runs of slots, so each run is one output."""
        most = min(max(self.spec.buckets.batch), MASKS_PER_BATCH // self.layout.shape.objects)
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
        for tensor in self.spec.bank:
            if tensor.per_object and unknown:
                self.storage.array(self.layout.slots(tensor.name, entry.slot))[0, unknown] = 0


def inline_input(name: str, values: NDArray[Any]) -> InferInput:
    """Return an input that is sent with its request; its first axis is B."""
    made = InferInput(name, values.shape, name_datatype(values.dtype))
    made.set_data_from_numpy(values)
    return made
