"""The exported graphs: one weights file, the contract's names, and what PyTorch says."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model.commands.operator_profile import time_operators, write_times_table
from model.core.contract import (
    METADATA_KEY,
    ModelSpec,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
    weights_digest,
)
from model.evaluation.runtime import GraphRuntime, Tensors, open_graph, run_graph, stack_entries
from model.export.graph_export import export
from model.export.parity import check_parity, read_photograph
from model.export.portable import make_portable
from model.export.recover import recover
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.backbones import FrozenBatchNorm
from model.networks.base import TrackingNetwork
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import TAMVT_MOBILE

pytestmark = pytest.mark.timeout(600)  # tracing takes a minute, more on a busy machine

SMALL = replace(
    TAMVT_MOBILE,
    name="small",
    hidden=32,
    widths=(16, 32, 32, 32),
    backbone="resnet18",
    decoder_layers=3,
    feedforward=32,
    norm_groups=4,
    short_side=64,
    fine_short_sides=(),
    fine_below_px=0.0,
)
SIZE = (64, 96)


@pytest.fixture(scope="module")
def small() -> TrackingNetwork:
    return drawn(seed=3)


def drawn(*, seed: int) -> TrackingNetwork:
    """A model with weights of its own, and BatchNorm statistics that are always the same."""
    torch.manual_seed(5)
    model = build_tamvt(SMALL)
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.bias.normal_()
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folder(small: TrackingNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small")
    export(small, path)
    return path


@pytest.fixture(scope="module")
def graphs(folder: Path) -> GraphRuntime:
    return GraphRuntime(folder, "small", threads=1)


def loaded(folder: Path, verb: str) -> onnx.ModelProto:
    return onnx.load(folder / f"small_{verb}.onnx", load_external_data=False)


def pictures(*, count: int, objects: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` random frames uint8 (B, H, W, 3) and soft masks uint8 (B, O, H, W)."""
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (count, *SIZE, 3), dtype=np.uint8)
    return frames, random.integers(0, 256, (count, objects, *SIZE), dtype=np.uint8)


def test_both_graphs_read_one_weights_file_in_their_folder(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "small.weights",
        "small_memorize.onnx",
        "small_segment.onnx",
    ]
    for verb in ("memorize", "segment"):
        tensors = loaded(folder, verb).graph.initializer
        places = {
            entry.value for t in tensors for entry in t.external_data if entry.key == "location"
        }
        assert places == {"small.weights"}


def test_names_and_free_axes_are_the_contracts(folder: Path, graphs: GraphRuntime) -> None:
    spec = graphs.spec
    expected = {
        "memorize": (memorize_inputs(spec), memorize_outputs(spec)),
        "segment": (segment_inputs(spec), segment_outputs(spec)),
    }
    for verb, (inputs, outputs) in expected.items():
        graph = loaded(folder, verb).graph
        assert [value.name for value in graph.input] == [tensor.name for tensor in inputs]
        assert [value.name for value in graph.output] == [tensor.name for tensor in outputs]
        for value, tensor in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
            axes = [dimension.dim_param for dimension in value.type.tensor_type.shape.dim]
            assert [axis[:1] for axis in axes] == [a if a in "BLONHWT" else "" for a in tensor.axes]


def test_both_graphs_carry_the_same_card(folder: Path, small: TrackingNetwork) -> None:
    specs = {
        entry.value
        for verb in ("memorize", "segment")
        for entry in loaded(folder, verb).metadata_props
        if entry.key == METADATA_KEY
    }
    assert len(specs) == 1
    spec = ModelSpec.from_json(specs.pop())
    values = {name: value.numpy() for name, value in prepare_serving(small).state_dict().items()}
    assert spec.weights_sha256 == weights_digest(values)


def test_the_graphs_tell_nothing_of_the_machine_they_were_made_on(folder: Path) -> None:
    for verb in ("memorize", "segment"):
        raw = (folder / f"small_{verb}.onnx").read_bytes()
        assert b"stack_trace" not in raw
        assert str(Path(__file__).parents[3]).encode() not in raw


def test_graphs_and_pytorch_agree_step_by_step(
    small: TrackingNetwork, graphs: GraphRuntime
) -> None:
    ours = TorchRuntime(prepare_serving(small), graphs.spec)
    parity = check_parity(ours, graphs, [read_photograph()], clips=8)
    assert parity.clips == 8
    assert parity.holds, parity


def test_a_graph_of_other_weights_fails_the_comparison(graphs: GraphRuntime) -> None:
    other = TorchRuntime(prepare_serving(drawn(seed=4)), graphs.spec)
    assert not check_parity(other, graphs, [read_photograph()], clips=2).holds


@pytest.mark.parametrize(("batch", "length", "objects"), [(1, 1, 1), (3, 2, 1), (2, 4, 3)])
def test_every_axis_is_free(graphs: GraphRuntime, batch: int, length: int, objects: int) -> None:
    outputs = graphs.segment(clip_inputs(graphs, batch=batch, length=length, objects=objects))
    assert outputs["masks"].shape == (batch, length, objects, *SIZE)
    assert outputs["confidence"].shape == (batch, length, objects)
    assert outputs["entry_value_s16"].shape[:2] == (batch, objects)


def test_sessions_in_a_batch_do_not_touch_each_other(graphs: GraphRuntime) -> None:
    inputs = clip_inputs(graphs, batch=3, length=2, objects=2)
    together = graphs.segment(inputs)
    for index in range(3):
        alone = graphs.segment({name: value[index : index + 1] for name, value in inputs.items()})
        apart = np.abs(together["masks"][index].astype(int) - alone["masks"][0].astype(int))
        assert apart.max() <= 1


def test_an_entry_is_the_same_bits_from_either_graph(graphs: GraphRuntime) -> None:
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    first = graphs.segment(inputs)
    again = graphs.memorize({"frame": inputs["frames"][:, -1], "masks": first["masks"][:, -1]})
    for name, tensor in again.items():
        assert np.array_equal(tensor, first[f"entry_{name}"])


def test_an_empty_slot_changes_nothing(graphs: GraphRuntime) -> None:
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    padded = dict(inputs)
    for name in ("key_s32", "value_s32", "key_s16", "value_s16", "age"):
        filler = np.full_like(inputs[name][:, :1], -1 if name == "age" else 7)
        padded[name] = np.concatenate((inputs[name], filler), axis=1)
    padded["entry_valid"] = np.pad(inputs["entry_valid"], ((0, 0), (0, 0), (0, 1)))
    apart = graphs.segment(padded)["masks"].astype(int) - graphs.segment(inputs)["masks"].astype(
        int
    )
    assert np.abs(apart).max() <= 1


def test_the_portable_graph_has_standard_operators_and_says_the_same(
    graphs: GraphRuntime, folder: Path, tmp_path: Path
) -> None:
    fused = loaded(folder, "segment")
    assert "com.microsoft" in {node.domain for node in fused.graph.node}
    plain = make_portable(fused)
    assert {node.domain for node in plain.graph.node} == {""}
    assert "If" not in {node.op_type for node in plain.graph.node}
    shutil.copy(folder / "small.weights", tmp_path)
    (tmp_path / "small_segment.onnx").write_bytes(plain.SerializeToString())
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    inputs["entry_valid"][:, 1, 0] = False
    outputs = run_graph(open_graph(tmp_path / "small_segment.onnx", threads=1), inputs)
    apart = outputs["masks"].astype(int) - graphs.segment(inputs)["masks"].astype(int)
    assert np.abs(apart).max() <= 1


def test_an_object_added_later_is_read_from_the_entries_that_know_it(
    small: TrackingNetwork, graphs: GraphRuntime
) -> None:
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    inputs["entry_valid"][:, 1, 0] = False
    ours = TorchRuntime(prepare_serving(small), graphs.spec).segment(inputs)
    apart = ours["masks"].astype(int) - graphs.segment(inputs)["masks"].astype(int)
    assert np.abs(apart).max() <= 1


def test_a_profile_names_the_operators(graphs: GraphRuntime, folder: Path) -> None:
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    times = time_operators(folder / "small_segment.onnx", inputs, threads=1, rounds=2)
    assert {"Conv", "MultiHeadAttention"} <= set(times)
    assert all(seconds >= 0 for seconds in times.values())
    rows = write_times_table(times, rows=3).splitlines()
    assert len(rows) == 6
    assert rows[-1].startswith("| others |")


def test_weights_come_back_out_of_the_graphs(small: TrackingNetwork, folder: Path) -> None:
    other = drawn(seed=8)
    recover(other, folder)
    trained = SMALL.trained_memory_size * (SMALL.trained_memory_size + 1) // 2
    for name, value in small.state_dict().items():
        back = other.state_dict()[name]
        if name == "time.table":
            assert torch.equal(back[:trained], value[:trained])
        else:
            torch.testing.assert_close(back, value)


def test_an_additive_time_encoding_is_exported_as_it_is(tmp_path: Path) -> None:
    model = build_tamvt(replace(SMALL, time="additive"))
    model.get_parameter("time.table").data.normal_(std=2.0)
    spec = export(model, tmp_path)
    theirs = GraphRuntime(tmp_path, "small", threads=1)
    inputs = clip_inputs(theirs, batch=2, length=2, objects=2)
    apart = [
        runtime.segment(inputs)["masks"].astype(int)
        for runtime in (TorchRuntime(prepare_serving(model), spec), theirs)
    ]
    assert np.abs(apart[0] - apart[1]).max() <= 1


def test_one_scale_is_exported_with_half_the_bank(tmp_path: Path) -> None:
    model = build_tamvt(replace(SMALL, scales=1)).eval()
    spec = export(model, tmp_path)
    assert [tensor.name for tensor in spec.bank] == ["key_s32", "value_s32"]
    ours = TorchRuntime(prepare_serving(model), spec)
    theirs = GraphRuntime(tmp_path, "small", threads=1)
    assert check_parity(ours, theirs, [read_photograph()], clips=4).holds


def test_an_object_without_entries_has_no_mask(graphs: GraphRuntime) -> None:
    inputs = clip_inputs(graphs, batch=1, length=2, objects=2)
    inputs["entry_valid"][:, 1] = False
    outputs = graphs.segment(inputs)
    assert not outputs["masks"][:, :, 1].any()
    assert not outputs["confidence"][:, :, 1].any()
    assert np.isfinite(outputs["entry_value_s32"]).all()


def clip_inputs(graphs: GraphRuntime, *, batch: int, length: int, objects: int) -> Tensors:
    """Inputs of `segment` with a bank of two remembered pictures."""
    frames, masks = pictures(count=2, objects=objects)
    entries = [
        graphs.memorize(
            {
                "frame": np.repeat(frames[index : index + 1], batch, axis=0),
                "masks": np.repeat(masks[index : index + 1], batch, axis=0),
            }
        )
        for index in range(2)
    ]
    clip, _ = pictures(count=batch * length, objects=1)
    return {
        "frames": clip.reshape(batch, length, *SIZE, 3),
        **stack_entries(entries),
        "age": np.tile(np.array([1, 0], np.int32), (batch, 1)),
        "entry_valid": np.ones((batch, objects, 2), bool),
    }
