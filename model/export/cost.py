"""What a frame costs in use, counted on a network that is not prepared for serving.

L frames of a clip, N entries, O objects.
"""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from model.core.contract import ModelSpec, Tensor, memorize_inputs, segment_inputs
from model.export.graphs import Memorize, Segment
from model.networks.base import TrackingNetwork


def count_macs(
    network: TrackingNetwork, spec: ModelSpec, *, objects: int = 1, size: tuple[int, int]
) -> int:
    """Return the multiply-adds of one frame (h, w) of a session whose memory is full.

    A clip of the usual length is shared out among its frames, with its entry. Where `memorize`
    makes entries, each frame pays its share of one. Only convolutions and products count.
    """
    sizes = {"B": 1, "L": spec.clip_length, "N": spec.memory_size, "O": objects, "3": 3}
    sizes |= {"H": size[0], "W": size[1]}

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> int:
        made = [make_input(tensor, spec, sizes, size) for tensor in inputs]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(*made)
        return counter.get_total_flops() // 2

    clip = count(Segment(network), segment_inputs(spec)) / spec.clip_length
    entry = 0.0
    if spec.entry_by == "memorize":
        entry = count(Memorize(network), memorize_inputs(spec)) / spec.retention.every
    return round(clip + entry)


def make_input(
    tensor: Tensor, spec: ModelSpec, sizes: dict[str, int], size: tuple[int, int]
) -> torch.Tensor:
    """Return an input of a graph, whose axes are `sizes` long or as its part of the spec says.

    Every slot holds an entry that knows all objects, so nothing is left out.
    """
    part = {each.name: each for each in (*spec.bank, *spec.state)}.get(tensor.name)
    if part is not None:
        sizes = {**sizes, "T": part.tokens(size), "C": part.channels}
    shape = [sizes[axis] for axis in tensor.axes]
    if tensor.name == "age":
        return torch.arange(sizes["N"], dtype=torch.int32)[None]
    return torch.ones(shape, dtype=getattr(torch, tensor.dtype))
