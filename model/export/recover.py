"""The way back: from the exported graphs of a model to weights that can be trained on.

The exporter folds, turns and cuts parameters as it sees fit. So the same model is exported once
more with parameters that are all different, and where each of them went is read off that.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

from model.core.contract import METADATA_KEY, ModelSpec, weights_digest
from model.export.graph_export import for_serving, trace
from model.networks.backbones import FoldedConv, FrozenBatchNorm
from model.networks.position import RelativeTimeEncoding
from model.networks.tamvt.model import TamVT

Numbers = NDArray[np.float32]
Values = dict[str, Numbers]


class RecoveryError(ValueError):
    """Graphs that are not of this model, or hide one of its parameters."""


def recover(model: TamVT, folder: Path) -> None:
    """Give `model` the weights of the graphs `<name>_*.onnx` in `folder`.

    `model` must hold the BatchNorm statistics that it was trained with (its backbone's public
    weights): they were folded into the convolutions, and are taken out again. Raises RecoveryError.
    """
    name = model.config.name
    graphs = [onnx.load(str(folder / f"{name}_{verb}.onnx")) for verb in ("memorize", "segment")]
    probe = for_serving(model)
    draw_differently(probe)
    traced = [initializers(graph) for graph in trace(probe).values()]
    found = {key: value for graph in graphs for key, value in initializers(graph).items()}
    places = {key: value for graph in traced for key, value in graph.items()}
    served = {
        key: torch.from_numpy(read_off(key, value.numpy(), places, found))
        for key, value in probe.state_dict().items()
    }
    check(served, graphs[0])
    put_back(model, probe, served)


def draw_differently(model: TamVT) -> None:
    """Fill every parameter with random numbers, so that no two are alike."""
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))


def initializers(graph: onnx.ModelProto) -> Values:
    """The constant tensors of a graph, by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def read_off(name: str, probe: Numbers, places: Values, found: Values) -> Numbers:
    """The parameter `name` in `found`, which went where `probe` went in `places`."""
    ways: tuple[tuple[Numbers, Callable[[Numbers], Numbers]], ...] = (
        (probe, lambda value: value.reshape(probe.shape)),
        (probe.T, lambda value: value.reshape(probe.T.shape).T),
    )
    for seen, back in ways:
        place = where(seen, places)
        if place is not None:
            return np.array(back(found[place]))  # a copy: the graph's own bytes are read-only
    rows = [where(row, places) for row in probe] if probe.ndim > 1 else [None]
    if None in rows:
        raise RecoveryError(f"the graphs do not show the parameter {name!r}")
    return np.stack([found[str(place)].reshape(probe.shape[1:]) for place in rows])


def where(value: Numbers, places: Values) -> str | None:
    """The name of the tensor that holds these numbers in this order, in whatever shape."""
    flat = value.ravel()
    for name, other in places.items():
        if other.size == flat.size and np.array_equal(other.ravel(), flat):
            return name
    return None


def check(served: dict[str, Tensor], graph: onnx.ModelProto) -> None:
    """RecoveryError unless these are the weights whose digest the graph carries."""
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    spec = ModelSpec.from_json(metadata.get(METADATA_KEY, ""))
    digest = weights_digest({name: value.numpy() for name, value in served.items()})
    if digest != spec.weights_sha256:
        raise RecoveryError(f"recovered weights {digest[:12]} are not {spec.weights_sha256[:12]}")


def put_back(model: TamVT, probe: TamVT, served: dict[str, Tensor]) -> None:
    """Unfold the convolutions and shorten the time table, then load."""
    probe.load_state_dict(served)
    state = {key: value for key, value in served.items() if key in model.state_dict()}
    for path, folded in probe.named_modules():
        if isinstance(folded, FoldedConv):
            state |= unfolded(model, path, folded)
    if "time.table" in served:
        rows = model.config.time_rows
        state["time.table"] = served["time.table"][: RelativeTimeEncoding(rows).table.numel()]
    missing, unknown = model.load_state_dict({**model.state_dict(), **state})
    if missing or unknown:
        raise RecoveryError(f"missing {missing}, unknown {unknown}")


def unfolded(model: TamVT, path: str, folded: FoldedConv) -> dict[str, Tensor]:
    """A folded convolution's own weight, the frozen map behind it taken out."""
    parent, _, last = path.rpartition(".")
    children = dict(model.get_submodule(parent).named_children())
    names = list(children)
    norm = children[names[names.index(last) + 1]]
    if not isinstance(norm, FrozenBatchNorm):
        raise RecoveryError(f"no frozen norm behind {path}")
    scale, shift = norm.scale_and_shift()
    if not torch.allclose(shift, folded.bias, atol=1e-5):
        raise RecoveryError(f"{path} was trained with other BatchNorm statistics")
    return {f"{path}.weight": folded.weight.detach() / scale[:, None, None, None]}
