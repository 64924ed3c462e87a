"""A model's graph with fixed shapes, as OpenVINO compiles it best."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import openvino
from numpy.typing import NDArray
from openvino import opset15

Shapes = Mapping[str, tuple[int, ...]]


def read_static(core: openvino.Core, path: Path, shapes: Shapes, folder: Path) -> openvino.Model:
    """Return the graph in `path` with these shapes of its inputs; `folder` holds its weights."""
    model = core.read_model(fix_shapes(path, shapes, folder))
    model.reshape({name: list(shape) for name, shape in shapes.items()})
    enter_through_bytes(model)
    enlarge_by_products(model)
    return model


def fix_shapes(path: Path, shapes: Shapes, folder: Path) -> Path:
    """Write the graph with its shapes fixed and folded into `folder`; return its path.

    OpenVINO refuses the graph with free dimensions when it is reshaped: what computes shapes has
    to be folded first, which ONNX Runtime does.
    """
    dimensions = onnxruntime.InferenceSession(
        str(path), providers=["CPUExecutionProvider"]
    ).get_inputs()
    options = onnxruntime.SessionOptions()
    for each in dimensions:
        for symbol, size in zip(each.shape, shapes[each.name], strict=True):
            if isinstance(symbol, str):
                options.add_free_dimension_override_by_name(symbol, size)
    fixed = folder / path.name
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(fixed)
    prefix = "session.optimized_model_external_initializers"
    options.add_session_config_entry(f"{prefix}_file_name", f"{path.stem}.weights")
    options.add_session_config_entry(f"{prefix}_min_size_in_bytes", "1024")
    onnxruntime.InferenceSession(
        str(path), sess_options=options, providers=["CPUExecutionProvider"]
    )
    return fixed


def enter_through_bytes(model: openvino.Model) -> None:
    """Let what is made of the masks begin at their bytes, as `memorize` does with given ones.

    `segment` rounds the masks inside and makes the entry of the rounded numbers; OpenVINO fuses
    that otherwise than numbers that come as bytes, and an entry would not be, bit for bit, the one
    that `memorize` makes of the same masks.
    """
    masks = next((each for each in model.outputs if "masks" in each.names), None)
    if masks is None:
        return
    cast = masks.get_node().input_value(0).get_node()
    if cast.get_type_name() != "Convert":
        return
    rounded = cast.input_value(0)
    for reader in list(rounded.get_target_inputs()):
        frame = reader.get_node()
        if frame.get_type_name() != "Gather":  # which takes the clip's last frame
            continue
        floats, readers = rounded.get_element_type(), list(frame.output(0).get_target_inputs())
        reader.replace_source_output(cast.output(0))
        frame.validate_and_infer_types()
        again = opset15.convert(frame.output(0), floats.to_string())
        for each in readers:
            each.replace_source_output(again.output(0))


def enlarge_by_products(model: openvino.Model) -> None:
    """Write bilinear enlargement as a product with a matrix on either side.

    The last one of `segment` takes a tenth of the clip otherwise: OpenVINO's own is slow.
    """
    for node in model.get_ops():
        if node.get_type_name() != "Interpolate":
            continue
        attributes = node.get_attributes()
        found = attributes["mode"], attributes["coordinate_transformation_mode"]
        before, after = node.input(0).get_shape(), node.output(0).get_shape()
        if found != ("linear_onnx", "half_pixel") or list(before[:2]) != list(after[:2]):
            continue
        rows, columns = (enlargement(before[axis], after[axis]) for axis in (2, 3))
        higher = opset15.matmul(opset15.constant(rows), node.input_value(0), False, False)
        wider = opset15.matmul(higher, opset15.constant(columns), False, True)
        for reader in list(node.output(0).get_target_inputs()):
            reader.replace_source_output(wider.output(0))


def enlargement(before: int, after: int) -> NDArray[np.float32]:
    """Return the matrix (after, before) that enlarges a line bilinearly, between half pixels."""
    places = np.clip((np.arange(after) + 0.5) * before / after - 0.5, 0, before - 1)
    lower = np.floor(places).astype(np.intp)
    share = (places - lower).astype(np.float32)
    matrix = np.zeros((after, before), np.float32)
    np.add.at(matrix, (np.arange(after), lower), 1 - share)
    np.add.at(matrix, (np.arange(after), np.minimum(lower + 1, before - 1)), share)
    return matrix
