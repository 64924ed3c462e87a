"""A network made ready to be served: first for inference, then for ONNX Runtime's kernels."""

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from model.export.replacements.folded_norms import fold_norms
from model.export.replacements.fused_matching import FusedMatching
from model.export.replacements.shared_levels import SharedPixelDecoder
from model.export.stored_weights import round_half
from model.networks.base import TrackingNetwork
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.pixel_decoder import PixelDecoder

LARGEST_BANK = 16  # entries that every served network takes

# What stands in for a readable part when a graph is traced.
REPLACEMENTS: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = MappingProxyType(
    {Matching: FusedMatching, PixelDecoder: SharedPixelDecoder}
)


def prepare_serving(network: TrackingNetwork, *, half: bool = False) -> TrackingNetwork:
    """Return a copy for inference in fp32: BatchNorms folded, for banks of up to 16 entries.

    With `half` its weights are rounded to what fp16 holds; biases and other vectors stay.
    """
    served = copy.deepcopy(network).eval().float()
    fold_norms(served)
    served.widen_memory(LARGEST_BANK)
    if half:
        for parameter in served.parameters():
            if parameter.ndim > 1:
                parameter.data = torch.from_numpy(round_half(parameter.detach().numpy()))
    served.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return served


def use_fast_parts(
    served: TrackingNetwork,
    replacements: Mapping[type[nn.Module], Callable[[Any], nn.Module]] = REPLACEMENTS,
) -> TrackingNetwork:
    """Return a copy with other parts; to trace, those that compute as ONNX Runtime does."""
    traced = copy.deepcopy(served)
    for parent in list(traced.modules()):
        for name, part in list(parent.named_children()):
            if type(part) in replacements:
                setattr(parent, name, replacements[type(part)](part))
    return traced
