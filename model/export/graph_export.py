"""A model as the two graphs that are served: `<name>_memorize` and `<name>_segment`.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, H and W the size.
"""

import copy
import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx
import torch
from onnx.external_data_helper import set_external_data
from torch import Tensor
from torch.export import Dim

from model.core.contract import (
    METADATA_KEY,
    BankTensor,
    Buckets,
    ModelSpec,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
    weights_digest,
)
from model.core.contract import Tensor as ContractTensor
from model.export.graphs import Memorize, Segment
from model.networks.backbones import fold_batch_norms
from model.networks.tamvt.model import TamVT

OPSET = 18
LARGEST_BANK = 16  # the exported time encoding reaches this far
ALIGNMENT = 4096  # of tensors in the weights file, so that it can be mapped
SMALLEST_EXTERNAL = 1024  # bytes; smaller tensors stay in the graph
FREE = frozenset("BLNOHWT")  # axes that stay dynamic
EXAMPLE = {"B": 2, "L": 2, "N": 3, "O": 3, "H": 64, "W": 96}


def for_serving(model: TamVT) -> TamVT:
    """A copy for inference: BatchNorms folded, time encoding for banks of up to 16 entries."""
    served = copy.deepcopy(model).eval().float()
    fold_batch_norms(served)
    served.time = model.time.interpolated(trained=model.config.trained_rows, rows=LARGEST_BANK)
    served.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return served


class NotExported(ValueError):
    """A model that the served graphs have no place for."""


def export(model: TamVT, folder: Path) -> ModelSpec:
    """Write the graphs and their one weights file into `folder`; the card that describes them.

    Raises NotExported for a model with one scale: its bank has no tokens at stride 16.
    """
    served = for_serving(model)
    values = {name: tensor.numpy() for name, tensor in served.state_dict().items()}
    spec = describe(model, weights_digest(values))
    return write_graphs(trace(served), spec, folder)


def trace(served: TamVT) -> dict[str, onnx.ModelProto]:
    """Both graphs, by verb; `served` computes as ONNX Runtime does from then on."""
    spec = describe(served, "0" * 64)
    if served.matching_s16 is None:
        raise NotExported(f"{spec.name} matches at one scale: graphs are of two")
    for matching in (served.matching_s32, served.matching_s16):
        matching.attend = runtime_attention
    served.pixel_decoder.share()
    return {
        "memorize": to_graph(Memorize(served), memorize_inputs(spec), memorize_outputs(spec)),
        "segment": to_graph(Segment(served), segment_inputs(spec), segment_outputs(spec)),
    }


def runtime_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float
) -> Tensor:
    """ONNX Runtime's fused attention, in blocks: the weights are never whole in memory."""
    return torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (query, key, value),
        {"num_heads": heads, "scale": 1.0},
        dtype=query.dtype,
        shape=(query.shape[0], query.shape[1], value.shape[2]),
        version=1,
    )


def describe(model: TamVT, digest: str) -> ModelSpec:
    """The card of a model; the digest of its weights file is filled in when that is written."""
    config = model.config
    channels = config.hidden
    return ModelSpec(
        name=config.name,
        short_side=config.short_side,
        bank=tuple(
            BankTensor(f"{kind}_s{stride}", "float16", kind == "value", stride, channels)
            for stride in (32, 16)
            for kind in ("key", "value")
        ),
        buckets=Buckets(
            sizes=bucket_sizes(config.short_side),
            clip_lengths=(1, config.clip_length),
            memory_sizes=(config.memory_size,),
            objects=(1, 2, 4, 8, 16),
            batch=(1, 2, 4, 8),
        ),
        weights_sha256=digest,
        weights_file_sha256="0" * 64,
        clip_length=config.clip_length,
        memory_size=config.memory_size,
        max_memory_size=LARGEST_BANK,
        license="Apache-2.0",
    )


def bucket_sizes(short_side: int) -> tuple[tuple[int, int], ...]:
    """The served sizes: 16:9, 4:3 and square, each lying and upright."""
    sizes = []
    for ratio in (16 / 9, 4 / 3, 1.0):
        long_side = round(short_side * ratio / 32) * 32
        sizes += [(short_side, long_side), (long_side, short_side)]
    return tuple(dict.fromkeys(sizes))


def to_graph(
    module: Memorize | Segment,
    inputs: Sequence[ContractTensor],
    outputs: Sequence[ContractTensor],
) -> onnx.ModelProto:
    """The module as an ONNX graph with the contract's names and free axes."""
    channels = module.model.config.hidden
    examples = tuple(example(tensor, channels) for tensor in inputs)
    shapes = tuple(
        {place: Dim.DYNAMIC for place, axis in enumerate(tensor.axes) if axis in FREE}
        for tensor in inputs
    )
    with torch.no_grad(), quiet():
        program = torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
        converted = torch.onnx.export(
            program,
            examples,
            input_names=[tensor.name for tensor in inputs],
            output_names=[tensor.name for tensor in outputs],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if converted is None:
        raise RuntimeError("the exporter made no graph")
    graph = without_metadata(converted.model_proto)
    values = (*graph.graph.input, *graph.graph.output)
    for value, tensor in zip(values, (*inputs, *outputs), strict=True):
        name_axes(value, tensor)
    return graph


def without_metadata(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without the exporter's notes: source lines and shapes it saw while tracing."""
    strip(model.graph)
    return model


def strip(graph: onnx.GraphProto) -> None:
    """Remove the notes of a graph and of the branches in it."""
    graph.ClearField("value_info")
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip(attribute.g)


def example(tensor: ContractTensor, channels: int) -> Tensor:
    """An input to trace with: small, and no axis of length 1, which would be taken as fixed.

    Nor are there two objects: the others than the first would be one.
    """
    stride = stride_of(tensor.name)
    tokens = (EXAMPLE["H"] // stride) * (EXAMPLE["W"] // stride)
    sizes = {**EXAMPLE, "T": tokens, "C": channels, "3": 3}
    shape = tuple(sizes[axis] for axis in tensor.axes)
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def stride_of(name: str) -> int:
    """The stride in a bank tensor's name; 1 for other tensors."""
    _, _, stride = name.rpartition("_s")
    return int(stride) if stride.isdigit() else 1


def name_axes(value: onnx.ValueInfoProto, tensor: ContractTensor) -> None:
    """Give the free axes of an input or output the contract's letters."""
    for dimension, axis in zip(value.type.tensor_type.shape.dim, tensor.axes, strict=True):
        if axis in FREE:
            dimension.dim_param = f"T{stride_of(tensor.name)}" if axis == "T" else axis


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's notes on its own inner life from the user."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        previous = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            with redirect_stdout(io.StringIO()):
                yield
        finally:
            logging.disable(previous)


def write_graphs(graphs: Mapping[str, onnx.ModelProto], spec: ModelSpec, folder: Path) -> ModelSpec:
    """Write both graphs over one weights file; equal tensors are stored once.

    The graphs are written last, so a folder with graphs has its weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{spec.name}.weights"
    with weights.open("wb") as file:
        places: dict[bytes, tuple[int, int]] = {}
        for graph in graphs.values():
            for tensor in graph.graph.initializer:
                move_out(tensor, file, places, weights.name)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    spec = replace(spec, weights_file_sha256=digest)
    for verb, graph in graphs.items():
        onnx.helper.set_model_props(graph, {METADATA_KEY: spec.to_json()})
        path = folder / f"{spec.graph(verb)}.onnx"
        path.write_bytes(graph.SerializeToString())
        onnx.checker.check_model(str(path))
    return spec


def move_out(
    tensor: onnx.TensorProto, file: BinaryIO, places: dict[bytes, tuple[int, int]], location: str
) -> None:
    """Move a tensor's bytes to the weights file, unless it is small."""
    values = onnx.numpy_helper.to_array(tensor)
    if values.nbytes < SMALLEST_EXTERNAL:
        return
    raw = np.ascontiguousarray(values).tobytes()
    if raw not in places:
        file.write(b"\0" * (-file.tell() % ALIGNMENT))
        places[raw] = (file.tell(), len(raw))
        file.write(raw)
    offset, length = places[raw]
    tensor.ClearField("float_data")
    tensor.raw_data = b"\0"  # only a tensor with raw data may be set external
    set_external_data(tensor, location, offset, length)
    tensor.ClearField("raw_data")
