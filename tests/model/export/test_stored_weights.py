"""Weights in one byte or two: the graph says the same, and tells them when it is read back."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from model.evaluation.runtime import open_graph
from model.export.recover import pair_constants
from model.export.stored_weights import round_half, round_weights, store_small

SHAPE = (32, 24)


def linear(weight: np.ndarray, bias: np.ndarray) -> onnx.ModelProto:
    """A graph of x (1, 32) to x weight + bias."""
    nodes = [
        helper.make_node("MatMul", ["x", "part.weight"], ["read"]),
        helper.make_node("Add", ["read", "part.bias"], ["y"]),
    ]
    tensors = [
        numpy_helper.from_array(weight, "part.weight"),
        numpy_helper.from_array(bias, "part.bias"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, size))
        for name, size in zip("xy", SHAPE, strict=True)
    ]
    graph = helper.make_graph(nodes, "linear", values[:1], values[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(model: onnx.ModelProto, folder: Path) -> np.ndarray:
    path = folder / "linear.onnx"
    onnx.save(model, path)
    x = np.linspace(-1, 1, SHAPE[0], dtype=np.float32)[None]
    return np.asarray(open_graph(path, threads=1).run(None, {"x": x})[0])


@pytest.mark.parametrize(("rounded", "dtype"), [(round_half, np.float16), (round_weights, np.int8)])
def test_what_is_stored_in_less_says_the_same(rounded: object, dtype: type, tmp_path: Path) -> None:
    assert callable(rounded)
    random = np.random.default_rng(1)
    weight = rounded(random.normal(size=SHAPE).astype(np.float32))
    bias = random.normal(size=SHAPE[1]).astype(np.float32)
    plain, small = linear(weight, bias), linear(weight, bias)
    store_small(small)
    stored = {each.name: numpy_helper.to_array(each) for each in small.graph.initializer}
    assert stored["part.weight.stored"].dtype == dtype
    assert stored["part.bias"].dtype == np.float32  # too small to be worth a cast
    assert np.array_equal(run(small, tmp_path), run(plain, tmp_path))


def test_weights_that_would_change_are_stored_as_they_are() -> None:
    weight = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    model = linear(weight, np.zeros(SHAPE[1], np.float32))
    store_small(model)
    assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), weight)


def test_a_training_can_go_on_from_weights_in_fp16() -> None:
    weight = round_half(np.random.default_rng(1).normal(size=SHAPE).astype(np.float32))
    bias = np.zeros(SHAPE[1], np.float32)
    traced, read = linear(weight + 1, bias), linear(weight, bias)
    store_small(read)
    pairs = pair_constants(traced, read)
    assert [seen.dtype for _, seen in pairs] == [np.float32] * 2
    assert np.array_equal(pairs[0][1], weight)
