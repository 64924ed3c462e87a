"""Opening a model: what does not belong together is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from model.core.contract import METADATA_KEY, BankTensor, ModelSpec
from service.engines.graphs import open_graphs
from service.errors import ModelMismatch, ModelMissing
from tests.support.toy_model import SPEC


@pytest.fixture
def folder(toy_folder: Path, tmp_path: Path) -> Path:
    """A copy of the toy model, to damage."""
    return Path(shutil.copytree(toy_folder, tmp_path / "toy"))


def rewrite(
    path: Path, *, spec: ModelSpec | None = None, rename: tuple[str, str] | None = None
) -> None:
    """Give a graph another card, or one of its outputs another name."""
    model = onnx.load(str(path), load_external_data=False)
    if spec is not None:
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    if rename is not None:
        old, new = rename
        for node in model.graph.node:
            node.output[:] = [new if name == old else name for name in node.output]
            node.input[:] = [new if name == old else name for name in node.input]
        for output in model.graph.output:
            output.name = new if output.name == old else output.name
    path.write_bytes(model.SerializeToString())


def test_a_model_opens_with_its_card(toy_folder: Path) -> None:
    graphs = open_graphs(toy_folder, "toy", threads=1)
    assert graphs.spec.name == "toy"
    assert [tensor.name for tensor in graphs.spec.bank] == ["key_s32", "value_s32"]


@pytest.mark.parametrize("name", ["toy_memorize.onnx", "toy_segment.onnx", "toy.weights"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelMissing, match=name):
        open_graphs(folder, "toy", threads=1)


def test_a_model_of_another_name_is_missing(folder: Path) -> None:
    with pytest.raises(ModelMissing):
        open_graphs(folder, "other", threads=1)


def test_renamed_files_are_refused(folder: Path) -> None:
    for path in list(folder.iterdir()):
        shutil.copy(path, folder / path.name.replace("toy", "other"))
    with pytest.raises(ModelMismatch):
        open_graphs(folder, "other", threads=1)


def test_one_changed_byte_of_the_weights_is_noticed(folder: Path) -> None:
    data = bytearray((folder / "toy.weights").read_bytes())
    data[100] ^= 1
    (folder / "toy.weights").write_bytes(data)
    with pytest.raises(ModelMismatch, match=r"toy\.weights"):
        open_graphs(folder, "toy", threads=1)


def test_short_weights_are_refused(folder: Path) -> None:
    data = (folder / "toy.weights").read_bytes()
    (folder / "toy.weights").write_bytes(data[:10])
    with pytest.raises(ModelMismatch):
        open_graphs(folder, "toy", threads=1)


@pytest.mark.parametrize("data", [b"", b"not a graph"], ids=["empty", "senseless"])
def test_a_graph_that_is_none_is_refused(folder: Path, data: bytes) -> None:
    (folder / "toy_segment.onnx").write_bytes(data)
    with pytest.raises(ModelMismatch, match="toy_segment"):
        open_graphs(folder, "toy", threads=1)


def test_a_graph_without_a_card_is_refused(folder: Path) -> None:
    path = folder / "toy_memorize.onnx"
    model = onnx.load(str(path), load_external_data=False)
    del model.metadata_props[:]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelMismatch, match="metadata"):
        open_graphs(folder, "toy", threads=1)


def test_graphs_of_two_exports_are_refused(folder: Path, toy_folder: Path) -> None:
    spec = open_graphs(toy_folder, "toy", threads=1).spec
    rewrite(folder / "toy_segment.onnx", spec=replace(spec, weights_sha256="1" * 64))
    with pytest.raises(ModelMismatch, match="same model"):
        open_graphs(folder, "toy", threads=1)


def test_a_graph_that_breaks_the_contract_is_refused(folder: Path) -> None:
    rewrite(folder / "toy_segment.onnx", rename=("confidence", "certainty"))
    with pytest.raises(ModelMismatch, match="certainty, confidence"):
        open_graphs(folder, "toy", threads=1)


HIDDEN = BankTensor("hidden", "float16", per_object=True, stride=0, channels=4)


@pytest.mark.parametrize(
    ("claim", "told"),
    [
        ({"state": (HIDDEN,), "capabilities": ("state",)}, "toy_memorize breaks .* at hidden"),
        ({"entry_by": "memorize"}, "toy_segment breaks .* at entry_key_s32, entry_value_s32"),
        ({"bank": SPEC.bank[:1]}, "toy_memorize breaks .* at value_s32"),
        (
            {"bank": (SPEC.bank[0], replace(SPEC.bank[1], channels=5))},
            "toy_segment breaks .* at value_s32: an axis has 4 places, not 5",
        ),
    ],
    ids=["a state", "entries by memorize", "fewer tensors", "other widths"],
)
def test_a_claim_that_the_graphs_do_not_keep_is_refused_with_one_line(
    folder: Path, toy_folder: Path, claim: dict[str, Any], told: str
) -> None:
    spec = replace(open_graphs(toy_folder, "toy", threads=1).spec, contract=2, **claim)
    for verb in ("memorize", "segment"):
        rewrite(folder / f"toy_{verb}.onnx", spec=spec)
    model = onnx.load(str(folder / "toy_segment.onnx"), load_external_data=False)
    for each in model.graph.input:
        if each.name == "value_s32":
            each.type.tensor_type.shape.dim[4].dim_value = 4
    (folder / "toy_segment.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelMismatch, match=told) as refusal:
        open_graphs(folder, "toy", threads=1)
    assert "\n" not in str(refusal.value)
