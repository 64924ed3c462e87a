"""The graphs against what TensorRT publishes that it can run; nothing here needs TensorRT."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto
from tritonclient.grpc.model_config_pb2 import ModelConfig

from model.core.contract import (
    SHIPPED_WEIGHTS,
    ModelSpec,
    Tensor,
    fixed_axes,
    memorize_inputs,
    segment_inputs,
    weights_version,
)
from model.export.triton.config import GraphName, list_shapes, list_tensors, make_profile
from model.export.triton.repository import write_repository
from tests.support.small_models import SMALL_GRAPHS, SYSTEMS

ROOT = Path(__file__).resolve().parents[4]
TABLE = json.loads((ROOT / "deploy" / "triton" / "tensorrt-operators.json").read_text())
NAMES: dict[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.UINT8: "UINT8",
    TensorProto.BOOL: "BOOL",
}
# Inputs that give a shape, axes or bounds, and no data; the table is about data.
FIRST_ONLY = {"Expand", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze", "Tile"}
FIRST_ONLY |= {"ReduceMax", "ReduceMean", "ReduceSum", "Unsqueeze"}
COMPARING = {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"}  # they make BOOLs
RESIZE: dict[str, set[Any]] = {"mode": {b"nearest", b"linear"}, "antialias": {0}}
RESIZE["coordinate_transformation_mode"] = {b"half_pixel", b"asymmetric", b"align_corners"}


# The shipped model, and the family's other systems, small and with random weights.
MODELS = {"tamvt-mobile": SHIPPED_WEIGHTS} | dict.fromkeys(
    SYSTEMS.keys() - {"tamvt-mobile"}, SMALL_GRAPHS
)


@pytest.fixture(scope="module", params=sorted(MODELS))
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, ModelSpec]:
    """A model's folder, its repository for TensorRT, and its spec."""
    name, target = str(request.param), tmp_path_factory.mktemp("repository")
    weights = MODELS[name]
    return weights, target, write_repository(weights, name, target, backend="tensorrt")


@pytest.fixture(scope="module", params=["memorize", "segment"])
def verb(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def path(served: tuple[Path, Path, ModelSpec], verb: str) -> Path:
    _, target, spec = served
    return target / spec.graph(verb) / str(weights_version(spec)) / "model.onnx"


@pytest.fixture(scope="module")
def graph(path: Path) -> ModelProto:
    onnx.checker.check_model(str(path), full_check=True)
    return onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))


def types_of(model: ModelProto) -> dict[str, int]:
    graph = model.graph
    values = (*graph.input, *graph.output, *graph.value_info)
    told = {value.name: value.type.tensor_type.elem_type for value in values}
    told |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return told


def wrong_types(node: NodeProto, types: dict[str, int]) -> Iterator[str]:
    """What TensorRT's table does not know of a node."""
    allowed = set(TABLE["types"].get(node.op_type, ()))
    if not allowed:
        yield f"{node.op_type} is not supported"
    inputs = list(node.input[:1] if node.op_type in FIRST_ONLY else node.input)
    if node.op_type == "ConstantOfShape":
        inputs = []
    outputs = [] if node.op_type in COMPARING else node.output
    for name in filter(None, (*inputs, *outputs)):
        told = NAMES.get(types.get(name, 0), "an unknown type")
        if told not in allowed:
            yield f"{node.op_type} with {told}"


def test_every_operator_and_type_is_in_the_published_table(graph: ModelProto) -> None:
    types = types_of(graph)
    assert {wrong for node in graph.graph.node for wrong in wrong_types(node, types)} == set()


def test_pixels_are_cast_first_and_last(graph: ModelProto) -> None:
    types = types_of(graph)
    touching = {
        node.op_type
        for node in graph.graph.node
        for name in (*node.input, *node.output)
        if types.get(name) == TensorProto.UINT8
    }
    assert touching == {"Cast"}


def test_the_opset_is_one_that_the_table_is_about(graph: ModelProto) -> None:
    (opset,) = graph.opset_import
    first, last = TABLE["opsets"]
    assert opset.domain == ""
    assert first <= opset.version <= last


def test_pictures_are_resized_as_tensorrt_can(graph: ModelProto) -> None:
    for node in graph.graph.node:
        if node.op_type == "Resize":
            told = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
            for name, allowed in RESIZE.items():
                assert told.get(name, next(iter(allowed))) in allowed


def random_inputs(spec: ModelSpec, tensors: tuple[Tensor, ...]) -> dict[str, NDArray[Any]]:
    """Something for every input, in the smallest size."""
    height, width = 64, 96
    random = np.random.default_rng(0)
    verb: GraphName = "segment" if any(tensor.name == "age" for tensor in tensors) else "memorize"
    length = min(2, spec.max_clip_length)
    shapes = list_shapes(spec, verb, (height, width), batch=1, length=length, slots=3, objects=2)
    made: dict[str, NDArray[Any]] = {}
    for tensor in tensors:
        values = random.random(shapes[tensor.name])
        scale = 1 if tensor.dtype.startswith("float") else 255
        made[tensor.name] = (scale * values).astype(tensor.dtype)
    if "age" in made:
        made["age"][:] = (2, 1, 0)
    return made


def test_the_graph_computes_the_same_bits_as_the_one_that_was_exported(
    served: tuple[Path, Path, ModelSpec], verb: str, path: Path
) -> None:
    weights, _, spec = served
    tensors = memorize_inputs(spec) if verb == "memorize" else segment_inputs(spec)
    inputs = random_inputs(spec, tensors)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    outputs = []
    for file in (weights / f"{spec.graph(verb)}.onnx", path):
        session = onnxruntime.InferenceSession(
            str(file), options, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs() if output.name != "batch_size"]
        outputs.append(dict(zip(names, session.run(names, inputs), strict=True)))
    for name, values in outputs[0].items():
        assert np.array_equal(values, outputs[1][name], equal_nan=True)


def test_the_configuration_has_the_graphs_axes(
    served: tuple[Path, Path, ModelSpec], verb: GraphName, graph: ModelProto
) -> None:
    """What is fixed in one is fixed in the other: Triton compares them when it loads a model."""
    _, target, spec = served
    config = ModelConfig()
    text_format.Parse((target / spec.graph(verb) / "config.pbtxt").read_text(), config)
    dims = {each.name: list(each.dims) for each in (*config.input, *config.output)}
    values = (*graph.graph.input, *graph.graph.output)
    for value in values:
        axes = value.type.tensor_type.shape.dim[1:]  # but for B
        assert dims.pop(value.name) == [axis.dim_value or -1 for axis in axes], value.name
    assert dims == {}
    tensors = [tensor for part in list_tensors(spec, verb) for tensor in part]
    known = {tensor.name: fixed_axes(spec, tensor) for tensor in tensors}
    for shapes in make_profile(spec, verb):
        for name, shape in shapes.items():
            fixed = zip(shape, known[name], strict=True)
            assert all(size in (None, axis) for axis, size in fixed), name
