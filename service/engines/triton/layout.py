"""Where the tensors of one session lie in its region of shared memory. Pure functions.

A region is a header, the bank (each tensor with its N slots, one block a slot), and space for one
clip: the inputs of `segment`, its masks, and the new entry, which is copied into its slot when the
memory remembers it. A model's state is there twice: as the next clip takes it, and as it comes out.
Letters: N slots, O objects, L frames of a clip, h and w the model's size, T tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from model.core.contract import BATCH_SIZE, ModelSpec, entry_output, next_output

HEADER_BYTES = 4096
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class TensorLocation:
    """One tensor in a region: it starts `offset` bytes after the region's beginning."""

    offset: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Shape:
    """The numbers that decide a region's layout, each at least what its session needs."""

    size: tuple[int, int]
    slots: int
    objects: int
    frames: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The locations of all tensors, and the bytes they take with the header."""

    shape: Shape
    locations: Mapping[str, TensorLocation]
    nbytes: int

    def slots(self, name: str, first: int, count: int = 1) -> TensorLocation:
        """Return the location of `count` slots of a bank's tensor from `first` on: (count, ...)."""
        whole = self.locations[name]
        block = whole.nbytes // whole.shape[0]
        return TensorLocation(whole.offset + first * block, whole.dtype, (count, *whole.shape[1:]))

    def clip(self, name: str, frames: int) -> TensorLocation:
        """Return the location of `frames`, `masks` or `confidence` of a clip: (frames, ...)."""
        whole = self.locations[name]
        return TensorLocation(whole.offset, whole.dtype, (frames, *whole.shape[1:]))


def choose_shape(
    spec: ModelSpec, size: tuple[int, int], *, slots: int, objects: int, frames: int
) -> Shape:
    """Return the shape a session is served in: N and O of a bucket, to share batches (decision 28).

    A session beyond every bucket keeps its own numbers. A clip of the model's usual length fits.
    """
    return Shape(
        size=size,
        slots=_bucket(spec.buckets.memory_sizes, slots),  # decision 28
        objects=_bucket(spec.buckets.objects, objects),
        frames=max(frames, spec.clip_length),
    )


def lay_out(spec: ModelSpec, shape: Shape) -> Layout:
    """Return the layout of a region of this shape."""
    slots, objects, frames = shape.slots, shape.objects, shape.frames
    blocks = {tensor: tensor.slot_shape(shape.size, objects=objects) for tensor in spec.bank}
    tensors: list[tuple[str, str, tuple[int, ...]]] = [  # name, type, shape
        *((tensor.name, tensor.dtype, (slots, *block)) for tensor, block in blocks.items()),
        ("age", "int32", (slots,)),
        ("entry_valid", "bool", (objects, slots)),
        ("frames", "uint8", (frames, *shape.size, 3)),
        ("masks", "uint8", (frames, objects, *shape.size)),
        ("confidence", "float32", (frames, objects)),
        (BATCH_SIZE.name, BATCH_SIZE.dtype, (1,)),
    ]
    if spec.entry_by == "segment":
        tensors += [(entry_output(t.name), t.dtype, (1, *block)) for t, block in blocks.items()]
    for part in spec.state:
        block = part.slot_shape(shape.size, objects=objects)
        tensors += [(name, part.dtype, block) for name in (part.name, next_output(part.name))]
    locations: dict[str, TensorLocation] = {}
    end = HEADER_BYTES
    for name, dtype, dims in tensors:
        locations[name] = TensorLocation(end, dtype, dims)
        end += -(-locations[name].nbytes // ALIGNMENT) * ALIGNMENT
    return Layout(shape, locations, end)


def _bucket(buckets: Sequence[int], wanted: int) -> int:
    return min((bucket for bucket in buckets if bucket >= wanted), default=wanted)
