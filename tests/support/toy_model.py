"""A real, tiny model that keeps the whole contract: it follows colors.

An entry keeps, for each 32x32 block, the frame's mean color and each object's color sum and
area. `segment` averages an object's color over the entries that know it (newer ones count more)
and marks the pixels of about that color. So a plain square on a plain background is tracked
exactly, and a wrong slot, age or `entry_valid` shows in the masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from model.core.confidence import Calibration
from model.core.contract import (
    METADATA_KEY,
    BankTensor,
    Buckets,
    ModelSpec,
    Tensor,
    entry_output,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
    weights_digest,
)

STRIDE = 32
WEIGHTS: dict[str, NDArray[Any]] = {
    "full": np.array(255.0, dtype=np.float32),
    "block": np.full((1, 1, STRIDE, STRIDE), 1 / STRIDE**2, dtype=np.float32),
    "tolerance": np.array(0.2, dtype=np.float32),
    "steepness": np.array(12.0, dtype=np.float32),
    "tiny": np.array(1e-6, dtype=np.float32),
}
LESS_STEEP = {**WEIGHTS, "steepness": np.array(9.0, np.float32)}  # another model's
TYPES = {
    "uint8": TensorProto.UINT8,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "int32": TensorProto.INT32,
    "bool": TensorProto.BOOL,
}
SPEC = ModelSpec(
    name="toy",
    short_side=64,
    bank=(
        BankTensor("key_s32", "float16", per_object=False, stride=STRIDE, channels=3),
        BankTensor("value_s32", "float16", per_object=True, stride=STRIDE, channels=4),
    ),
    buckets=Buckets(
        sizes=((64, 96),), clip_lengths=(2,), memory_sizes=(9,), objects=(1, 2), batch=(1, 2)
    ),
    weights_sha256=weights_digest(WEIGHTS),
    weights_file_sha256="0" * 64,
    license="Apache-2.0",
)


def write_toy_model(
    folder: Path,
    *,
    name: str = "toy",
    weights: Mapping[str, NDArray[Any]] = WEIGHTS,
    calibration: Calibration | None = None,
    fine_short_sides: tuple[int, ...] = (),
) -> None:
    """Write `<name>_memorize.onnx`, `<name>_segment.onnx` and `<name>.weights`.

    Other `weights` have the shapes of `WEIGHTS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = b"".join(weights[key].tobytes() for key in WEIGHTS)
    (folder / f"{name}.weights").write_bytes(data)
    spec = replace(
        SPEC,
        name=name,
        weights_sha256=weights_digest(weights),
        weights_file_sha256=hashlib.sha256(data).hexdigest(),
        calibration=calibration,
        fine_short_sides=fine_short_sides,
        fine_below_px=12.0,
    )
    _save(_memorize(), memorize_inputs(spec), memorize_outputs(spec), folder, spec, "memorize")
    _save(_segment(), segment_inputs(spec), segment_outputs(spec), folder, spec, "segment")


class _Graph:
    """A list of nodes that grows with each operation; a value is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []

    def add(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        output = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def ints(self, *values: int) -> str:
        return self._constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> str:
        return self._constant(np.array(value, dtype=np.float32))

    def unit(self, value: str) -> str:
        """Return uint8 0..255 as float 0..1."""
        return self.add("Div", self.add("Cast", value, to=TensorProto.FLOAT), "full")

    def sum(self, value: str, *axes: int, keep: bool = False) -> str:
        return self.add("ReduceSum", value, self.ints(*axes), keepdims=int(keep))

    def blocks(self, value: str, *, leading: int) -> str:
        """Return means over 32x32 blocks: (..., C, H, W) -> (..., T, C), `leading` axes first."""
        size = self.add("Slice", self.add("Shape", value), self.ints(-2), self.ints(99))
        planes = self.add("Concat", self.ints(-1, 1), size, axis=0)
        means = self.add(
            "Conv", self.add("Reshape", value, planes), "block", strides=[STRIDE, STRIDE]
        )
        flat = self.add("Concat", self._leading(value), self.ints(-1), axis=0)
        tokens = self.add("Reshape", means, flat)  # (..., C, T)
        return self.add("Transpose", tokens, perm=[*range(leading), leading + 1, leading])

    def _leading(self, value: str) -> str:
        return self.add("Slice", self.add("Shape", value), self.ints(0), self.ints(-2))

    def _constant(self, values: NDArray[Any]) -> str:
        tensor = onnx.numpy_helper.from_array(values)
        return self.add("Constant", value=tensor)


def _entry(graph: _Graph, frame: str, masks: str, *, names: tuple[str, str]) -> None:
    """Add the entry of frame (B, H, W, 3) and masks (B, O, H, W)."""
    colors = graph.add("Transpose", graph.unit(frame), perm=[0, 3, 1, 2])  # (B, 3, H, W)
    share = graph.add("Unsqueeze", graph.unit(masks), graph.ints(2))  # (B, O, 1, H, W)
    tinted = graph.add("Mul", share, graph.add("Unsqueeze", colors, graph.ints(1)))
    sums = graph.add("Concat", tinted, share, axis=2)  # (B, O, 4, H, W)
    key, value = graph.blocks(colors, leading=1), graph.blocks(sums, leading=2)
    graph.add("Cast", key, name=names[0], to=TensorProto.FLOAT16)
    graph.add("Cast", value, name=names[1], to=TensorProto.FLOAT16)


def _memorize() -> _Graph:
    graph = _Graph()
    _entry(graph, "frame", "masks", names=("key_s32", "value_s32"))
    return graph


def _weights_of_entries(graph: _Graph) -> str:
    """Return (B, N, O): 1 / (1 + age) if the slot is filled and knows the object, else 0."""
    age = graph.add("Cast", "age", to=TensorProto.FLOAT)
    filled = graph.add("GreaterOrEqual", age, graph.number(0))
    recency = graph.add(
        "Div", graph.number(1), graph.add("Add", graph.add("Abs", age), graph.number(1))
    )
    weight = graph.add("Mul", recency, graph.add("Cast", filled, to=TensorProto.FLOAT))
    known = graph.add("Transpose", "entry_valid", perm=[0, 2, 1])  # (B, O, N) -> (B, N, O)
    known = graph.add("Cast", known, to=TensorProto.FLOAT)
    return graph.add("Mul", graph.add("Unsqueeze", weight, graph.ints(2)), known)


def _colors_of_objects(graph: _Graph) -> tuple[str, str]:
    """Return the mean color (B, O, 3) and area (B, O, 1) of each object over its entries."""
    value = graph.add("Cast", "value_s32", to=TensorProto.FLOAT)  # (B, N, O, T, 4)
    weight = graph.add("Unsqueeze", _weights_of_entries(graph), graph.ints(3))
    total = graph.sum(graph.add("Mul", graph.sum(value, 3), weight), 1)  # (B, O, 4)
    sums = graph.add("Slice", total, graph.ints(0), graph.ints(3), graph.ints(2))
    area = graph.add("Slice", total, graph.ints(3), graph.ints(4), graph.ints(2))
    return graph.add("Div", sums, graph.add("Max", area, "tiny")), area


def _soft_masks(graph: _Graph) -> str:
    """Return uint8 (B, L, O, H, W): how near each pixel is to each object's color."""
    color, area = _colors_of_objects(graph)
    pixels = graph.add("Unsqueeze", graph.unit("frames"), graph.ints(2))  # (B, L, 1, H, W, 3)
    there = graph.add("Unsqueeze", color, graph.ints(1, 3, 4))  # (B, 1, O, 1, 1, 3)
    apart = graph.add("Abs", graph.add("Sub", pixels, there))
    distance = graph.add("ReduceMax", apart, graph.ints(5), keepdims=0)  # (B, L, O, H, W)
    near = graph.add("Mul", graph.add("Sub", "tolerance", distance), "steepness")
    soft = graph.add("Clip", near, graph.number(0), graph.number(1))
    known = graph.add("Cast", graph.add("Greater", area, "tiny"), to=TensorProto.FLOAT)
    known = graph.add("Unsqueeze", known, graph.ints(1, 4))  # (B, 1, O, 1, 1)
    scaled = graph.add("Mul", graph.add("Mul", soft, known), "full")
    return graph.add("Cast", graph.add("Round", scaled), name="masks", to=TensorProto.UINT8)


def _confidence(graph: _Graph) -> None:
    """Add float32 (B, L, O): the mean soft value of pixels from 128 on, 0 if there are none."""
    soft = graph.add("Cast", "masks", to=TensorProto.FLOAT)
    inside = graph.add("GreaterOrEqual", soft, graph.number(128))
    inside = graph.add("Cast", inside, to=TensorProto.FLOAT)
    total = graph.sum(graph.add("Mul", graph.unit("masks"), inside), 3, 4)
    count = graph.add("Max", graph.sum(inside, 3, 4), graph.number(1))
    graph.add("Div", total, count, name="confidence")


def _segment() -> _Graph:
    graph = _Graph()
    _soft_masks(graph)
    _confidence(graph)
    last = graph._constant(np.array(-1, dtype=np.int64))
    frame = graph.add("Gather", "frames", last, axis=1)  # (B, H, W, 3)
    masks = graph.add("Gather", "masks", last, axis=1)  # (B, O, H, W)
    _entry(graph, frame, masks, names=(entry_output("key_s32"), entry_output("value_s32")))
    return graph


def _save(
    graph: _Graph,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    folder: Path,
    spec: ModelSpec,
    verb: str,
) -> None:
    used = {name for node in graph.nodes for name in node.input}
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            spec.graph(verb),
            [_value(tensor) for tensor in inputs],
            [_value(tensor) for tensor in outputs],
            [tensor for tensor in _initializers(f"{spec.name}.weights") if tensor.name in used],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    path = folder / f"{spec.graph(verb)}.onnx"
    path.write_bytes(model.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    axes = [
        int(a) if a.isdigit() else f"{a}_{tensor.name}" if a in "TC" else a for a in tensor.axes
    ]
    return helper.make_tensor_value_info(tensor.name, TYPES[tensor.dtype], axes)


def _initializers(location: str) -> list[onnx.TensorProto]:
    """Return the weights as references into one external file."""
    tensors, offset = [], 0
    for name, values in WEIGHTS.items():
        tensor = TensorProto(name=name, dims=values.shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        reference = {"location": location, "offset": offset, "length": values.nbytes}
        for key, value in reference.items():
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
        offset += values.nbytes
    return tensors
