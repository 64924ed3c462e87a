"""A clip step of several sessions at once on one device: on a GPU recorded as one CUDA graph.

B sessions of a batch, S of all, L frames of a clip, N entries, O objects, H and W the model's size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.core.contract import ModelSpec
from model.export.graphs import Segment
from model.export.replacements.recorded_parts import RECORDED_PARTS
from model.export.serving import prepare_serving, use_fast_parts
from model.networks.base import TrackingNetwork

WARM_UPS = 3  # before a graph is recorded: libraries choose their kernels


@dataclass(frozen=True, slots=True)
class StepSize:
    """What a session's clip step works on."""

    height: int
    width: int
    clip_length: int
    memory_size: int
    objects: int

    def frames_shape(self, count: int) -> tuple[int, ...]:
        """Return the shape of the clips of so many sessions, (B, L, H, W, 3)."""
        return (count, self.clip_length, self.height, self.width, 3)

    def bank_shapes(self, spec: ModelSpec, count: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the banks of so many sessions, (B, N, ...), by tensor."""
        size = (self.height, self.width)
        return {
            each.name: (count, self.memory_size, *each.slot_shape(size, objects=self.objects))
            for each in spec.bank
        }


def prepare_device(network: TrackingNetwork, device: torch.device) -> TrackingNetwork:
    """Return a copy for inference on this device whose clip step asks the host nothing."""
    served = use_fast_parts(prepare_serving(network), RECORDED_PARTS).to(device)
    if device.type == "cuda":  # tensor cores read channels last
        served.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return served


class BatchedStep:
    """`segment` of B sessions with full banks. Fill `inputs`, call `run`, read what it returns."""

    def __init__(
        self,
        served: TrackingNetwork,
        spec: ModelSpec,
        size: StepSize,
        *,
        batch: int,
        half: bool,
        recorded: bool,
    ) -> None:
        self.batch, self._half = batch, half
        self._device = served.mean.device
        self._segment = Segment(served).to(self._device)
        shapes = size.bank_shapes(spec, batch)
        dtypes = {each.name: getattr(torch, each.dtype) for each in spec.bank}
        ages = torch.arange(size.memory_size - 1, -1, -1, dtype=torch.int32)
        known = torch.ones((batch, size.objects, size.memory_size), dtype=torch.bool)
        self.inputs = {
            "frames": torch.zeros(size.frames_shape(batch), dtype=torch.uint8),
            **{name: torch.zeros(shape, dtype=dtypes[name]) for name, shape in shapes.items()},
            "age": ages.repeat(batch, 1),
            "entry_valid": known,
        }
        self.inputs = {name: each.to(self._device) for name, each in self.inputs.items()}
        self._graph: torch.cuda.CUDAGraph | None = None
        self._outputs: tuple[Tensor, ...] = ()
        if recorded:
            self._graph, self._outputs = self._record()

    @torch.no_grad()
    def run(self) -> tuple[Tensor, ...]:
        """Return masks (B, L, O, H, W), confidence and entries; the next run overwrites them.

        A GPU may still be at it when this returns.
        """
        if self._graph is None:
            return self._compute()
        self._graph.replay()
        return self._outputs

    def _compute(self) -> tuple[Tensor, ...]:
        # A recorded graph must not keep weights that an earlier run rounded: no cache.
        half = torch.autocast(
            self._device.type, torch.bfloat16, enabled=self._half, cache_enabled=False
        )
        with half:
            outputs: tuple[Tensor, ...] = self._segment(*self.inputs.values())
        return outputs

    @torch.no_grad()
    def _record(self) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
        """Return the CUDA graph of a run and the tensors that it writes."""
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UPS):
                self._compute()
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._compute()
        return graph, outputs


class DeviceSessions:
    """The full banks of S sessions on a device, and the steps of several sizes that serve them."""

    def __init__(
        self, steps: Sequence[BatchedStep], spec: ModelSpec, size: StepSize, *, sessions: int
    ) -> None:
        self._steps = sorted(steps, key=lambda step: step.batch)
        self._device = self._steps[0].inputs["frames"].device
        self._last_slot = size.memory_size - 1
        dtypes = {each.name: getattr(torch, each.dtype) for each in spec.bank}
        self.banks: Mapping[str, Tensor] = {
            name: torch.zeros(shape, dtype=dtypes[name], device=self._device)
            for name, shape in size.bank_shapes(spec, sessions).items()
        }
        self.ages: NDArray[np.int32] = np.tile(
            np.arange(self._last_slot, -1, -1, dtype=np.int32), (sessions, 1)
        )
        most = self._steps[-1].batch
        pinned = self._device.type == "cuda"  # what the device copies by itself
        self.frames = torch.randint(
            0, 256, size.frames_shape(most), dtype=torch.uint8, pin_memory=pinned
        )
        shape = (most, size.clip_length, size.objects, size.height, size.width)
        self.masks = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)

    @property
    def most(self) -> int:
        """Return the largest batch."""
        return self._steps[-1].batch

    @torch.no_grad()
    def serve(self, numbers: Sequence[int]) -> Tensor:
        """Return the masks (B, L, O, H, W) of the next clip of each of these sessions, on the host.

        Their clips are the first of `frames`. Each new entry takes the place of the session's
        oldest but the reference.
        """
        count = len(numbers)
        step = next(step for step in self._steps if step.batch >= count)
        rows = [*numbers, *[numbers[-1]] * (step.batch - count)]  # padding is a clip done twice
        index = torch.tensor(rows, device=self._device)
        step.inputs["frames"].copy_(self.frames[: step.batch], non_blocking=True)
        step.inputs["age"].copy_(torch.from_numpy(self.ages[rows]))
        for name, bank in self.banks.items():
            torch.index_select(bank, 0, index, out=step.inputs[name])
        masks, _, *entry = step.run()
        self.masks[:count].copy_(masks[:count], non_blocking=True)
        if self._last_slot:
            slots = torch.from_numpy(self._make_oldest_newest(numbers)).to(self._device)
            for bank, made in zip(self.banks.values(), entry, strict=True):
                bank[index[:count], slots] = made[:count]
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return self.masks[:count]

    def _make_oldest_newest(self, numbers: Sequence[int]) -> NDArray[np.int64]:
        """Return the slot of each session's oldest entry but the reference, now its newest."""
        ages = self.ages[list(numbers), 1:]  # the reference is in slot 0
        slots = 1 + ages.argmax(axis=1)
        self.ages[list(numbers), 1:] = ages + 1
        self.ages[list(numbers), slots] = 0
        return slots
