"""The way back: from the exported graphs of a network to weights that can be trained on.

The exporter folds, turns and cuts parameters as it sees fit. So the same network is exported once
more with parameters that are all different, and that shows where each of them went.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from model.core.contract import METADATA_KEY, ModelSpec
from model.errors import ModelError
from model.export.graph_export import digest_weights, trace
from model.export.replacements.folded_norms import FoldedConv
from model.export.serving import prepare_serving
from model.export.stored_weights import STORED
from model.networks.backbones import FrozenBatchNorm
from model.networks.base import TrackingNetwork

Numbers = NDArray[np.float32]
Pair = tuple[Numbers, Numbers]  # a constant in the graph traced now, and in the one to read


class RecoveryError(ModelError, ValueError):
    """Graphs that are not of this network, or hide one of its parameters."""


def recover(network: TrackingNetwork, folder: Path) -> None:
    """Give `network` the weights of the graphs `<name>_*.onnx` in `folder`.

    `network` must hold the BatchNorm statistics that it was trained with (its backbone's public
    weights): they were folded into the convolutions, and are taken out again. Raise RecoveryError
    unless the graphs show every weight of it.
    """
    name = network.config.name
    graphs = [onnx.load(str(folder / f"{name}_{verb}.onnx")) for verb in ("memorize", "segment")]
    metadata = {entry.key: entry.value for entry in graphs[0].metadata_props}
    spec = ModelSpec.from_json(metadata.get(METADATA_KEY, ""))
    probe = prepare_serving(network)
    probe.config = replace(probe.config, loop_bias=spec.loop_bias)
    draw_differently(probe)
    both = zip(trace(probe).values(), graphs, strict=True)
    pairs = [pair for traced, read in both for pair in pair_constants(traced, read)]
    served = {
        key: torch.from_numpy(read_off(key, value.numpy(), pairs))
        for key, value in probe.state_dict().items()
    }
    digest = digest_weights(served, spec.loop_bias)
    if digest != spec.weights_sha256:
        raise RecoveryError(f"recovered weights {digest[:12]} are not {spec.weights_sha256[:12]}")
    put_back(network, probe, served)


def draw_differently(network: TrackingNetwork) -> None:
    """Fill every parameter with random numbers, so that no two are alike."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))


def pair_constants(traced: onnx.ModelProto, read: onnx.ModelProto) -> list[Pair]:
    """Return the constants of two graphs that stand for each other.

    Parameters are named alike. What the exporter turned or cut is named by a number that counts all
    operators before it, so those are paired by their order among tensors of the same shape.
    """
    sides: list[dict[object, Numbers]] = []
    for graph in (traced, read):
        constants: dict[object, Numbers] = {}
        unnamed: Counter[tuple[int, ...]] = Counter()
        for tensor in graph.graph.initializer:
            name = tensor.name.removesuffix(STORED)
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float16:
                values = values.astype(np.float32)
            if "." in name:
                constants[name] = values
            else:
                constants[values.shape, unnamed[values.shape]] = values
                unnamed[values.shape] += 1
        sides.append(constants)
    return [(value, sides[1][key]) for key, value in sides[0].items() if key in sides[1]]


def read_off(name: str, probe: Numbers, pairs: Sequence[Pair]) -> Numbers:
    """Return the parameter `name`, which went where `probe` went in the graphs traced now."""
    ways: tuple[tuple[Numbers, Callable[[Numbers], Numbers]], ...] = (
        (probe, lambda value: value.reshape(probe.shape)),
        (probe.T, lambda value: value.reshape(probe.T.shape).T),
    )
    for seen, back in ways:
        found = find_constant(seen, pairs)
        if found is not None:
            return np.array(back(found))  # a copy: the graph's own bytes are read-only
    rows = []
    for row in probe if probe.ndim > 1 else (probe,):
        found = find_constant(row, pairs)
        if found is None:
            raise RecoveryError(f"the graphs do not show the parameter {name!r}")
        rows.append(found.reshape(probe.shape[1:]))
    return np.stack(rows)


def find_constant(value: Numbers, pairs: Sequence[Pair]) -> Numbers | None:
    """Return what stands for the tensor with these numbers in this order, in any shape."""
    flat = value.ravel()
    for traced, read in pairs:
        if traced.size == flat.size and np.array_equal(traced.ravel(), flat):
            return read
    return None


def put_back(network: TrackingNetwork, probe: TrackingNetwork, served: dict[str, Tensor]) -> None:
    """Unfold the convolutions and shorten what was widened for larger memories, then load."""
    probe.load_state_dict(served)
    own = network.state_dict()
    # A table that was widened begins with the rows that were there before.
    state = {
        key: value[: len(own[key])] if value.ndim else value
        for key, value in served.items()
        if key in own
    }
    for path, folded in probe.named_modules():
        if isinstance(folded, FoldedConv):
            state |= unfold(network, path, folded)
    missing, unknown = network.load_state_dict({**own, **state})
    if missing or unknown:
        raise RecoveryError(f"missing {missing}, unknown {unknown}")


def unfold(network: TrackingNetwork, path: str, folded: FoldedConv) -> dict[str, Tensor]:
    """Return a folded convolution's own weight, the frozen map behind it taken out."""
    parent, _, last = path.rpartition(".")
    children = dict(network.get_submodule(parent).named_children())
    names = list(children)
    norm = children[names[names.index(last) + 1]]
    if not isinstance(norm, FrozenBatchNorm):
        raise RecoveryError(f"no frozen norm behind {path}")
    scale, shift = norm.fold_affine()
    if not torch.allclose(shift, folded.bias, atol=1e-5):
        raise RecoveryError(f"{path} was trained with other BatchNorm statistics")
    return {f"{path}.weight": folded.weight.detach() / scale[:, None, None, None]}
