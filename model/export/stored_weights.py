"""How a graph's weights are stored: in two bytes or one where that is exact, floats once opened.

What a network computes with is rounded before it is traced, so that graph and network say the same.
"""

from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

LARGEST = 127  # of a stored weight in a byte
FEWEST = 16  # weights of a channel that share a scale
SMALLEST = 256  # values; smaller tensors stay as they are
STORED = ".stored"  # ends the name of what is cast when the graph is opened

Floats = NDArray[np.float32]


def round_half(values: Floats) -> Floats:
    """Return the nearest numbers that two bytes hold."""
    return values.astype(np.float16).astype(np.float32)


def round_weights(values: Floats) -> Floats:
    """Return weights as a byte each holds them: whole numbers times a scale; else in fp16."""
    if values.ndim < 2 or values[0].size < FEWEST:
        return round_half(values)
    return split_scale(values, axis=0).join()


class Scaled(NamedTuple):
    """A tensor as whole numbers, int8, times a scale of each channel, which broadcasts."""

    whole: NDArray[np.int8]
    scale: Floats

    def join(self) -> Floats:
        """Return the tensor."""
        return self.whole.astype(np.float32) * self.scale


def split_scale(values: Floats, *, axis: int) -> Scaled:
    """Return the nearest whole numbers and scales of a tensor whose channels lie along `axis`."""
    others = tuple(each for each in range(values.ndim) if each != axis % values.ndim)
    scale = np.abs(values).max(axis=others, keepdims=True).astype(np.float32) / LARGEST
    scale = np.maximum(scale, np.finfo(np.float32).tiny)
    return Scaled(np.rint(values / scale).astype(np.int8), scale)


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
        stored, name = f"{tensor.name}{STORED}", tensor.name
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


def shrink(values: Floats) -> tuple[NDArray[np.generic], ...] | None:
    """Return what a tensor is stored as: whole numbers and scales, or fp16; None: as it is."""
    if np.array_equal(values, round_half(values)):
        return (values.astype(np.float16),)
    for axis in (0, -1) if values.ndim > 1 else ():
        scaled = split_scale(values, axis=axis)
        if np.allclose(scaled.join(), values, rtol=1e-5, atol=0):
            return scaled
    return None
