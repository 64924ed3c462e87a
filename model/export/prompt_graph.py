"""A prompt network as the graph that is served: `<name>_prompt.onnx`, which holds all its weights.

They are stored in a byte each, with a scale for each channel, and are floats again when the graph
is opened. What the network computes with is rounded before it is traced, so both say the same.
"""

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from model.core.contract import weights_digest
from model.core.prompt_contract import (
    PROMPT_INPUTS,
    PROMPT_METADATA_KEY,
    PROMPT_OUTPUTS,
    PromptSpec,
)
from model.export.graph_export import convert
from model.export.replacements.folded_norms import fold_norms
from model.networks.prompt.network import PromptNetwork, raise_mask

EXAMPLE = {"B": 2, "P": 3, "H": 64, "W": 96, "2": 2, "3": 3}
LARGEST = 127  # of a stored weight
FEWEST = 16  # weights of a channel that share a scale
SMALLEST = 256  # values; smaller tensors stay as they are


class ServedPrompt(nn.Module):
    """What the graph computes: the network on whole arrays, rounding included."""

    def __init__(self, network: PromptNetwork) -> None:
        super().__init__()
        self.model = network

    def forward(
        self, image: Tensor, points: Tensor, point_labels: Tensor, previous: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return soft masks uint8 (B, H, W) and scores (B,) of the inputs of the contract."""
        logits, scores = self.model(image, points, point_labels, previous.float() / 255)
        full = raise_mask(logits, (image.shape[1], image.shape[2])).sigmoid()
        return torch.round(full * 255).to(torch.uint8), scores.sigmoid()


def export_prompt(network: PromptNetwork, folder: Path) -> PromptSpec:
    """Write the graph into `folder`; return the spec that it carries."""
    served = prepare_prompt(network)
    config = network.config
    spec = PromptSpec(
        name=config.name,
        short_side=config.short_side,
        weights_sha256=weights_digest({n: v.numpy() for n, v in served.state_dict().items()}),
        license=config.weights_license,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
    )
    graph = trace_prompt(served)
    store_small(graph)
    folder.mkdir(parents=True, exist_ok=True)
    write_prompt(graph, spec, folder)
    return spec


def write_prompt(graph: onnx.ModelProto, spec: PromptSpec, folder: Path) -> None:
    """Write a graph with its spec into `folder`."""
    helper.set_model_props(graph, {PROMPT_METADATA_KEY: spec.to_json()})
    onnx.checker.check_model(graph)
    (folder / f"{spec.graph}.onnx").write_bytes(graph.SerializeToString())


def prepare_prompt(network: PromptNetwork) -> PromptNetwork:
    """Return a copy for inference: BatchNorms folded, weights rounded to what is stored."""
    served = copy.deepcopy(network).eval().float()
    fold_norms(served)
    served.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for parameter in served.parameters():
        values = parameter.detach().numpy()
        parameter.data = torch.from_numpy(round_weights(values))
    return served.requires_grad_(False)


def round_weights(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return weights as they are stored: whole numbers times a scale a channel, or in fp16."""
    if values.ndim < 2 or values[0].size < FEWEST:
        return values.astype(np.float16).astype(np.float32)
    return split_scale(values, axis=0).join()


class Scaled(NamedTuple):
    """A tensor as whole numbers, int8, times a scale of each channel, which broadcasts."""

    whole: NDArray[np.int8]
    scale: NDArray[np.float32]

    def join(self) -> NDArray[np.float32]:
        """Return the tensor."""
        return self.whole.astype(np.float32) * self.scale


def split_scale(values: NDArray[np.float32], *, axis: int) -> Scaled:
    """Return the nearest whole numbers and scales of a tensor whose channels lie along `axis`."""
    others = tuple(each for each in range(values.ndim) if each != axis % values.ndim)
    scale = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / LARGEST
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return Scaled(np.rint(values / scale).astype(np.int8), scale)


def trace_prompt(served: PromptNetwork) -> onnx.ModelProto:
    """Return the graph of a prepared network, with the contract's names and free axes."""
    examples = tuple(
        torch.zeros([EXAMPLE[axis] for axis in each.axes], dtype=getattr(torch, each.dtype))
        for each in PROMPT_INPUTS
    )
    free = {
        tensor.name: {place: axis for place, axis in enumerate(tensor.axes) if axis.isalpha()}
        for tensor in (*PROMPT_INPUTS, *PROMPT_OUTPUTS)
    }
    shapes = tuple(dict.fromkeys(free[tensor.name], Dim.DYNAMIC) for tensor in PROMPT_INPUTS)
    names = [each.name for each in PROMPT_INPUTS], [each.name for each in PROMPT_OUTPUTS]
    return convert(ServedPrompt(served), examples, names, free, shapes=shapes)


def store_small(graph: onnx.ModelProto) -> None:
    """Store the weights of a graph in a byte each where that is exact, else in fp16 where it is."""
    first: list[onnx.NodeProto] = []
    kept: list[TensorProto] = []
    for tensor in graph.graph.initializer:
        values = numpy_helper.to_array(tensor)
        small = None
        if values.dtype == np.float32 and values.size >= SMALLEST:
            small = shrink(values)
        if small is None:
            kept.append(tensor)
            continue
        stored, name = f"{tensor.name}.stored", tensor.name
        kept.append(numpy_helper.from_array(small[0], stored))
        if len(small) == 1:
            first.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
            continue
        kept.append(numpy_helper.from_array(small[1], f"{name}.scale"))
        first.append(helper.make_node("Cast", [stored], [f"{name}.whole"], to=TensorProto.FLOAT))
        first.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
    nodes = [*first, *graph.graph.node]
    graph.graph.ClearField("initializer")
    graph.graph.initializer.extend(kept)
    graph.graph.ClearField("node")
    graph.graph.node.extend(nodes)


def shrink(values: NDArray[np.float32]) -> tuple[NDArray[np.generic], ...] | None:
    """Return what a tensor is stored as: whole numbers and scales, or fp16; None: as it is."""
    if np.array_equal(values, values.astype(np.float16).astype(np.float32)):
        return (values.astype(np.float16),)
    for axis in (0, -1) if values.ndim > 1 else ():
        scaled = split_scale(values, axis=axis)
        if np.allclose(scaled.join(), values, rtol=1e-5, atol=0):
            return scaled
    return None


def compare_prompt(
    network: PromptNetwork, path: Path, inputs: list[dict[str, NDArray[np.generic]]]
) -> int:
    """Return the largest difference, of 255, of the graph's soft masks from PyTorch's."""
    served = ServedPrompt(prepare_prompt(network))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    apart = [0]
    for each in inputs:
        with torch.no_grad():
            ours, _ = served(*(torch.from_numpy(each[tensor.name]) for tensor in PROMPT_INPUTS))
        theirs = session.run(["mask"], each)[0]
        apart.append(int(np.abs(ours.numpy().astype(int) - theirs.astype(int)).max()))
    return max(apart)
