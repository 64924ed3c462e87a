"""A prompt network as the graph that is served: `<name>_prompt.onnx`, which holds all its weights.

They are stored in a byte each, with a scale for each channel, and are floats again when the graph
is opened. What the network computes with is rounded before it is traced, so both say the same.
"""

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper
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
from model.export.stored_weights import round_weights, store_small
from model.networks.prompt.network import PromptNetwork, raise_mask

EXAMPLE = {"B": 2, "P": 3, "H": 64, "W": 96, "2": 2, "3": 3}


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


def compare_prompt(
    network: PromptNetwork, path: Path, inputs: list[dict[str, NDArray[np.generic]]]
) -> int:
    """Return the largest difference, of 255, of the graph's masks and scores from PyTorch's."""
    served = ServedPrompt(prepare_prompt(network))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    apart = [0]
    for each in inputs:
        with torch.no_grad():
            ours, our_scores = served(
                *(torch.from_numpy(each[tensor.name]) for tensor in PROMPT_INPUTS)
            )
        theirs, their_scores = session.run(["mask", "score"], each)
        apart.append(int(np.abs(ours.numpy().astype(int) - theirs.astype(int)).max()))
        apart.append(round(255 * float(np.abs(our_scores.numpy() - their_scores).max())))
    return max(apart)
