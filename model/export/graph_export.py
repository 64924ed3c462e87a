"""A network as the two graphs that are served: `<name>_memorize` and `<name>_segment`.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, H and W the size.
"""

import hashlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
import torch
from onnx.external_data_helper import set_external_data
from torch import Tensor, nn
from torch.export import Dim

from model.core.contract import (
    METADATA_KEY,
    Buckets,
    ModelSpec,
    find_part,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
    weights_digest,
)
from model.core.contract import Tensor as ContractTensor
from model.core.loop_bias import NO_BIAS, LoopBias
from model.core.memory import Retention
from model.errors import ModelError
from model.export.graphs import Memorize, Segment
from model.export.serving import LARGEST_BANK, prepare_serving, use_fast_parts
from model.export.stored_weights import store_small
from model.networks.base import TrackingNetwork

OPSET = 18
ALIGNMENT = 4096  # of tensors in the weights file, so that it can be mapped
SMALLEST_EXTERNAL = 1024  # bytes; smaller tensors stay in the graph
OBJECTS = (1, 2, 4, 8, 16, 32)  # buckets of objects
FREE = frozenset("BLNOHWT")  # axes that stay dynamic
EXAMPLE = {"B": 2, "L": 2, "N": 3, "O": 3, "H": 64, "W": 96}


class NotExported(ModelError, ValueError):
    """A network that the served graphs have no place for."""


def export(network: TrackingNetwork, folder: Path, *, half: bool = False) -> ModelSpec:
    """Write the graphs and their one weights file into `folder`; return the spec they carry.

    With `half` weights are rounded to fp16, and stored so: half the bytes, as fast when opened.
    """
    served = prepare_serving(network, half=half)
    spec = describe(network, digest_weights(served.state_dict(), network.config.loop_bias))
    graphs = trace(served)
    if half:
        for graph in graphs.values():
            store_small(graph)
    return write_graphs(graphs, spec, folder)


def digest_weights(state: Mapping[str, Tensor], bias: LoopBias) -> str:
    """Return the identity of what is served; a loop with a bias is another model."""
    values = {name: tensor.numpy() for name, tensor in state.items()}
    if bias != NO_BIAS:
        values["loop_bias"] = np.array([bias.answer, bias.memory])
    return weights_digest(values)


def trace(served: TrackingNetwork) -> dict[str, onnx.ModelProto]:
    """Return both graphs, by verb, of a network that is prepared for serving."""
    spec = describe(served, "0" * 64)
    traced = use_fast_parts(served)
    return {
        "memorize": to_graph(Memorize(traced), memorize_inputs(spec), memorize_outputs(spec), spec),
        "segment": to_graph(Segment(traced), segment_inputs(spec), segment_outputs(spec), spec),
    }


def describe(network: TrackingNetwork, digest: str) -> ModelSpec:
    """Return the spec of a network; its weights file's digest is filled in when that is written."""
    config = network.config
    capabilities = name_capabilities(network)
    extended = capabilities or config.retention != Retention() or config.entry_by != "segment"
    extended = extended or config.loop_bias != NO_BIAS
    return ModelSpec(
        name=config.name,
        short_side=config.short_side,
        fine_short_sides=config.fine_short_sides,
        fine_below_px=config.fine_below_px,
        bank=network.bank_tensors,
        buckets=Buckets(
            sizes=list_sizes(config.short_side),
            clip_lengths=tuple(sorted({1, config.clip_length})),
            memory_sizes=(config.memory_size,),
            objects=tuple(count for count in OBJECTS if count <= config.max_objects),
            batch=(1, 2, 4, 8),
        ),
        weights_sha256=digest,
        weights_file_sha256="0" * 64,
        clip_length=config.clip_length,
        memory_size=config.memory_size,
        max_memory_size=LARGEST_BANK,
        max_clip_length=config.max_clip_length,
        max_objects=config.max_objects,
        license=config.weights_license,
        contract=2 if extended else 1,
        capabilities=capabilities,
        retention=config.retention,
        state=network.state_tensors,
        entry_by=config.entry_by,
        loop_bias=config.loop_bias,
    )


def name_capabilities(network: TrackingNetwork) -> tuple[str, ...]:
    """Return what a service must know of a network beyond its tensors (contract 2)."""
    flags = {"aggregated": network.aggregated, "state": bool(network.state_tensors)}
    return tuple(name for name, held in flags.items() if held)


def list_sizes(short_side: int) -> tuple[tuple[int, int], ...]:
    """Return the served sizes: 16:9, 4:3 and square, each lying and upright."""
    sizes = []
    for ratio in (16 / 9, 4 / 3, 1.0):
        long_side = round(short_side * ratio / 32) * 32
        sizes += [(short_side, long_side), (long_side, short_side)]
    return tuple(dict.fromkeys(sizes))


def to_graph(
    module: Memorize | Segment,
    inputs: Sequence[ContractTensor],
    outputs: Sequence[ContractTensor],
    spec: ModelSpec,
) -> onnx.ModelProto:
    """Return the module as an ONNX graph with the contract's names and free axes."""
    examples = tuple(make_example(tensor, spec) for tensor in inputs)
    free = {tensor.name: name_free_axes(tensor, spec) for tensor in (*inputs, *outputs)}
    shapes = tuple(dict.fromkeys(free[tensor.name], Dim.DYNAMIC) for tensor in inputs)
    names = [tensor.name for tensor in inputs], [tensor.name for tensor in outputs]
    return convert(module, examples, names, free, shapes=(shapes,))


def convert(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    free: Mapping[str, Mapping[int, str]],
    *,
    shapes: tuple[Any, ...],
) -> onnx.ModelProto:
    """Return a module as an ONNX graph, without the exporter's notes.

    `names` are those of its inputs and outputs, `free` the letters of their free axes by position,
    `shapes` the inputs' free axes as torch.export takes them. Raise NotExported.
    """
    inputs, outputs = names
    with torch.no_grad(), silence_exporter():
        program = torch.export.export(module, examples, dynamic_shapes=shapes, strict=False)
        converted = torch.onnx.export(
            program,
            examples,
            input_names=inputs,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    if converted is None:
        raise NotExported("the exporter made no graph")
    graph = converted.model_proto
    strip(graph.graph)
    values = (*graph.graph.input, *graph.graph.output)
    for value, name in zip(values, (*inputs, *outputs), strict=True):
        for position, letter in free[name].items():
            value.type.tensor_type.shape.dim[position].dim_param = letter
    return graph


def strip(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes, source lines and traced shapes, also from branches."""
    graph.ClearField("value_info")
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer, graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                strip(attribute.g)


def make_example(tensor: ContractTensor, spec: ModelSpec) -> Tensor:
    """Return an input to trace with, small and without a free axis of length 1.

    The exporter would take such an axis as fixed. Two objects would do likewise: there would be
    one other than the first.
    """
    sizes = {**EXAMPLE, "L": min(EXAMPLE["L"], spec.max_clip_length), "3": 3}
    part = find_part(spec, tensor.name)
    if part is not None:
        sizes |= {"T": part.tokens((EXAMPLE["H"], EXAMPLE["W"])), "C": part.channels}
    shape = tuple(sizes[axis] for axis in tensor.axes)
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def name_free_axes(tensor: ContractTensor, spec: ModelSpec) -> dict[int, str]:
    """Return the names of the axes that stay dynamic, by position; T by its stride (`T32`)."""
    part = find_part(spec, tensor.name)
    free = {}
    for position, axis in enumerate(tensor.axes):
        if axis == "T" and part is not None:
            if part.stride:  # a stride of 0 is one token
                free[position] = f"T{part.stride}"
        elif axis in FREE and not (axis == "L" and spec.max_clip_length == 1):
            free[position] = axis
    return free


@contextmanager
def silence_exporter() -> Iterator[None]:
    """Keep the exporter's warnings, logs and prints from the user."""
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


def rewrite_spec(folder: Path, name: str, **changes: Any) -> ModelSpec:
    """Change members of the spec in both graphs and return it; their tensors stay as they are.

    Each is written aside and renamed. Between the two they do not fit, and are refused.
    """
    for verb in ("memorize", "segment"):
        path = folder / f"{name}_{verb}.onnx"
        graph = onnx.load(str(path), load_external_data=False)
        properties = {entry.key: entry.value for entry in graph.metadata_props}
        spec = replace(ModelSpec.from_json(properties[METADATA_KEY]), **changes)
        onnx.helper.set_model_props(graph, {**properties, METADATA_KEY: spec.to_json()})
        aside = path.with_suffix(".part")
        aside.write_bytes(graph.SerializeToString())
        aside.replace(path)
    return spec
