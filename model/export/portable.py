"""Graphs in ONNX's own operators alone, for runtimes that lack ONNX Runtime's fused attention.

The exported graphs hold `com.microsoft::MultiHeadAttention`, which never keeps the attention
weights whole in memory on a CPU, and an `If` that leaves out the attention mass where every entry
knows every object. TensorRT fuses the plain operators itself and knows only those; on a GPU the
mass costs little.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

FUSED_DOMAIN = "com.microsoft"
FUSED = "MultiHeadAttention"


def portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph with every fused attention and every choice written out.

    It computes the same: of a choice, the branch stays that is right in both cases.
    """
    written = onnx.ModelProto()
    written.CopyFrom(model)
    nodes = [new for node in model.graph.node for new in expand(node, written.graph)]
    written.graph.ClearField("node")
    written.graph.node.extend(nodes)
    kept = [opset for opset in model.opset_import if opset.domain != FUSED_DOMAIN]
    written.ClearField("opset_import")
    written.opset_import.extend(kept)
    return written


def expand(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The node itself, or the plain operators that do the same."""
    if (node.domain, node.op_type) == (FUSED_DOMAIN, FUSED):
        yield from attention(node, graph)
    elif node.op_type == "If":
        yield from general_branch(node, graph)
    else:
        yield node


def general_branch(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the branch that computes the attention mass, under names of their own."""
    branch = next(
        a.g for a in node.attribute if any(inner.op_type == "Softmax" for inner in a.g.node)
    )
    made = [name for inner in branch.node for name in inner.output]
    made += [tensor.name for tensor in branch.initializer]
    names = {name: f"{node.name}_{name}" for name in made}
    names |= {value.name: name for value, name in zip(branch.output, node.output, strict=True)}
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = names[tensor.name]
    for inner in branch.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(inner)
        copy.name = f"{node.name}_{inner.name}"
        copy.input[:] = [names.get(name, name) for name in inner.input]
        copy.output[:] = [names[name] for name in inner.output]
        yield copy


def attention(node: onnx.NodeProto, graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Logits, softmax and readout of a fused attention, its heads split and joined again."""
    heads = next(a.i for a in node.attribute if a.name == "num_heads")
    stem = node.name or node.output[0]
    split, join = f"{stem}_split", f"{stem}_join"
    for name, shape in ((split, [0, 0, heads, -1]), (join, [0, 0, -1])):
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), name))
    query, key, value = node.input[:3]
    orders = {"query": (0, 2, 1, 3), "key": (0, 2, 3, 1), "value": (0, 2, 1, 3)}
    for (part, order), source in zip(orders.items(), (query, key, value), strict=True):
        yield helper.make_node("Reshape", [source, split], [f"{stem}_{part}_split"])
        yield helper.make_node(
            "Transpose", [f"{stem}_{part}_split"], [f"{stem}_{part}"], perm=list(order)
        )
    yield helper.make_node("MatMul", [f"{stem}_query", f"{stem}_key"], [f"{stem}_logits"])
    yield helper.make_node("Softmax", [f"{stem}_logits"], [f"{stem}_weights"], axis=-1)
    yield helper.make_node("MatMul", [f"{stem}_weights", f"{stem}_value"], [f"{stem}_read"])
    yield helper.make_node(
        "Transpose", [f"{stem}_read"], [f"{stem}_read_joined"], perm=[0, 2, 1, 3]
    )
    yield helper.make_node("Reshape", [f"{stem}_read_joined", join], list(node.output))
