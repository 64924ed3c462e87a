"""Graphs in ONNX's own operators alone, for runtimes that lack ONNX Runtime's fused attention.

The exported graphs hold `com.microsoft::MultiHeadAttention`, which never keeps the attention
weights whole in memory on a CPU, and an `If` that leaves out the attention mass where every entry
knows every object. TensorRT fuses the plain operators itself and knows only those; on a GPU the
mass costs little.
"""

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedOpsetsPass
from onnxscript.rewriter import pattern

FUSED_DOMAIN = "com.microsoft"
FUSED = "MultiHeadAttention"


def make_portable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of the graph with every fused attention and every choice written out.

    It computes the same: of a choice, the branch stays that is right in both cases.
    """
    written = ir.from_proto(model)
    for node in list(written.graph):
        if node.op_type == "If":
            keep_general_branch(written.graph, node)
    pattern.RewriteRuleSet([StandardAttention.rule()]).apply_to_model(written)
    NameFixPass()(written)
    RemoveUnusedOpsetsPass()(written)
    return ir.to_proto(written)


def keep_general_branch(graph: ir.Graph, choice: ir.Node) -> None:
    """Put the branch of an `If` that computes the attention mass in its place."""
    branches = [attribute.as_graph() for attribute in choice.attributes.values()]
    branch = next(one for one in branches if any(node.op_type == "Softmax" for node in one))
    nodes, outputs = list(branch), list(branch.outputs)
    for value in list(branch.initializers.values()):
        value.name = f"{choice.name}_{value.name}"
        del branch.initializers[value.name]
        graph.register_initializer(value)
    branch.outputs.clear()
    branch.remove(nodes)
    ir.convenience.replace_nodes_and_values(graph, choice, [choice], nodes, choice.outputs, outputs)


class StandardAttention(pattern.RewriteRuleClassBase):
    """Logits, softmax and readout of a fused attention, its heads split and joined again."""

    def pattern(self, op, query, key, value):  # type: ignore[no-untyped-def]
        return op.MultiHeadAttention(
            query, key, value, _domain=FUSED_DOMAIN, _outputs=["read"], _allow_other_attributes=True
        )

    def rewrite(self, op, query, key, value, read):  # type: ignore[no-untyped-def]
        heads = read.producer().attributes["num_heads"].as_int()
        split = op.Constant(value_ints=[0, 0, heads, -1])
        query = op.Transpose(op.Reshape(query, split), perm=[0, 2, 1, 3])
        key = op.Transpose(op.Reshape(key, split), perm=[0, 2, 3, 1])
        value = op.Transpose(op.Reshape(value, split), perm=[0, 2, 1, 3])
        weights = op.Softmax(op.MatMul(query, key), axis=-1)
        joined = op.Transpose(op.MatMul(weights, value), perm=[0, 2, 1, 3])
        return op.Reshape(joined, op.Constant(value_ints=[0, 0, -1]))
