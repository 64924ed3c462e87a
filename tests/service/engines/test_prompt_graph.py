"""Opening a model's prompt graph, and running it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from model.core.prompt_contract import ON_OBJECT, PADDING, PROMPT_METADATA_KEY
from service.engines.prompt_graph import find_prompt_graph, open_prompt_graph
from service.errors import EngineUnavailable, ModelMismatch
from tests.support import scene
from tests.support.toy_prompt import write_toy_prompt


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy prompt graph."""
    return write_toy_prompt(tmp_path_factory.mktemp("prompt"))


def test_the_first_model_that_has_one_gives_it(path: Path, tmp_path: Path) -> None:
    found = find_prompt_graph(path.parent, ["other", "toy"])
    assert found is not None
    assert found.spec.graph == "toy_prompt"
    assert find_prompt_graph(tmp_path, ["toy"]) is None


def test_it_gives_a_mask_and_a_score(path: Path) -> None:
    graph = open_prompt_graph(path, "toy")
    points = np.array([[20, 20], [0, 0]], np.float32)
    labels = np.array([ON_OBJECT, PADDING], np.int32)
    nothing = np.zeros((scene.HEIGHT, scene.WIDTH), np.uint8)
    mask, score = graph(scene.picture(0), points, labels, nothing)
    assert np.array_equal(mask > 127, scene.labels(0) == 1)
    assert score == pytest.approx(0.9)


def test_what_the_runtime_refuses_is_an_engine_that_is_not_there(path: Path) -> None:
    graph = open_prompt_graph(path, "toy")
    points, labels = np.full((1, 2), 1e6, np.float32), np.array([ON_OBJECT], np.int32)
    with pytest.raises(EngineUnavailable):
        graph(scene.picture(0), points, labels, np.zeros((scene.HEIGHT, scene.WIDTH), np.uint8))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("name", "of the model 'toy'"), ("spec", "metadata"), ("output", "contract at cover, mask")],
)
def test_a_graph_that_breaks_the_contract_is_refused(
    path: Path, tmp_path: Path, fault: str, reason: str
) -> None:
    broken = tmp_path / ("other_prompt.onnx" if fault == "name" else "toy_prompt.onnx")
    shutil.copy(path, broken)
    model = onnx.load(str(broken))
    if fault == "spec":
        onnx.helper.set_model_props(model, {PROMPT_METADATA_KEY: '{"name": "toy"}'})
    if fault == "output":
        model.graph.output[0].name = "cover"
        for node in model.graph.node:
            node.output[:] = ["cover" if name == "mask" else name for name in node.output]
    broken.write_bytes(model.SerializeToString())
    with pytest.raises(ModelMismatch, match=reason):
        open_prompt_graph(broken, broken.stem.removesuffix("_prompt"))
