"""What is written otherwise for OpenVINO means the same."""

from __future__ import annotations

import cv2
import numpy as np
import openvino
import pytest
from openvino import opset15

from service.engines.open_vino import open_core
from service.engines.static_graph import enlarge_by_products, enlargement


@pytest.mark.parametrize(("before", "after"), [(8, 32), (7, 28), (5, 12), (4, 4), (1, 3)])
def test_a_line_is_enlarged_as_opencv_does(before: int, after: int) -> None:
    line = np.random.default_rng(0).normal(size=(before, 1)).astype(np.float32)
    wanted = cv2.resize(line, (1, after), interpolation=cv2.INTER_LINEAR)
    assert np.allclose(enlargement(before, after) @ line, wanted, atol=1e-5)


def test_products_give_what_the_node_gives() -> None:
    picture = np.random.default_rng(0).normal(size=(2, 1, 8, 14)).astype(np.float32)
    outputs = []
    for change in (None, enlarge_by_products):
        given = opset15.parameter([2, 1, 8, 14], np.float32)
        sizes = opset15.constant(np.array([2, 1, 32, 56]))
        node = opset15.interpolate(
            given,
            sizes,
            "linear_onnx",
            "sizes",
            coordinate_transformation_mode="half_pixel",
            axes=opset15.constant(np.array([0, 1, 2, 3])),
        )
        model = openvino.Model([opset15.relu(node)], [given])
        if change is not None:
            change(model)
            assert "Interpolate" not in {each.get_type_name() for each in model.get_ops()}
        config = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = open_core().compile_model(model, "CPU", config)
        outputs.append(np.array(compiled(picture)[0]))
    assert np.allclose(outputs[0], outputs[1], atol=1e-5)
