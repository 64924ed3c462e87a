"""The same function in the operators and types that TensorRT has.

TensorRT takes UINT8 at a network's inputs and outputs only, next to a Cast, and compares no BOOLs
(deploy/triton/tensorrt-operators.json). PyTorch's exporter does not know that.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper


def fit_tensorrt(model: ModelProto) -> None:
    """Casts UINT8 inputs before anything else happens to them, and BOOLs before they are compared.

    Every value stays as it was: all numbers of both types are numbers of the wider ones.
    """
    types = _types(model)
    nodes = [node for node in model.graph.node if node.op_type != "Constant"]
    for node in nodes:
        if node.op_type == "Equal" and {types.get(name) for name in node.input} == {
            TensorProto.BOOL
        }:
            _cast(model, node.input, consumers=[node], to=TensorProto.INT32)
    pixels = [value.name for value in model.graph.input if types[value.name] == TensorProto.UINT8]
    _cast(model, pixels, consumers=nodes, to=TensorProto.FLOAT)
    del model.graph.value_info[:]  # it tells of the types before
    _sort(model)


def _types(model: ModelProto) -> dict[str, int]:
    """The type of every value whose type can be known."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def _cast(
    model: ModelProto, names: Iterable[str], *, consumers: Iterable[NodeProto], to: int
) -> None:
    """The consumers take these values in another type."""
    renamed = {name: f"{name}_as_{TensorProto.DataType.Name(to).lower()}" for name in names}
    for node in consumers:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    for name, other in renamed.items():
        model.graph.node.append(helper.make_node("Cast", [name], [other], to=to))


def _sort(model: ModelProto) -> None:
    """The nodes in an order in which each comes after those whose outputs it takes."""
    made = {value.name for value in model.graph.input}
    made |= {value.name for value in model.graph.initializer} | {""}
    waiting = list(model.graph.node)
    ordered: list[NodeProto] = []
    while waiting:
        ready = [node for node in waiting if made.issuperset(node.input)]
        made.update(name for node in ready for name in node.output)
        ordered.extend(ready)
        waiting = [node for node in waiting if not made.issuperset(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
