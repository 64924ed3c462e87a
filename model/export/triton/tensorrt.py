"""The same function in the operators and types that TensorRT has.

TensorRT takes UINT8 at a network's inputs and outputs only, next to a Cast, and compares no BOOLs
(deploy/triton/tensorrt-operators.json). PyTorch's exporter does not know that.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass, TopologicalSortPass


def fit_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that casts UINT8 inputs first of all, and BOOLs before they are compared.

    Every value stays as it was: all numbers of both types are numbers of the wider ones.
    """
    written = ir.from_proto(model)
    ShapeInferencePass()(written)
    graph = written.graph
    for node in list(graph):
        compared = [value for value in node.inputs if value is not None]
        if node.op_type == "Equal" and {value.dtype for value in compared} == {ir.DataType.BOOL}:
            for index, value in enumerate(compared):
                node.replace_input_with(index, cast(graph, value, ir.DataType.INT32))
    for value in graph.inputs:
        if value.dtype == ir.DataType.UINT8:
            uses = list(value.uses())
            pixels = cast(graph, value, ir.DataType.FLOAT)
            for node, index in uses:
                node.replace_input_with(index, pixels)
    TopologicalSortPass()(written)
    fitted = ir.to_proto(written)
    fitted.graph.ClearField("value_info")  # it tells of the types before
    return fitted


def cast(graph: ir.Graph, value: ir.Value, to: ir.DataType) -> ir.Value:
    """Return the value in another type, from a new node at the graph's end."""
    node = ir.node("Cast", [value], {"to": to})
    node.outputs[0].name = f"{value.name}_as_{to.name.lower()}"
    graph.append(node)
    return node.outputs[0]
