"""The biases of the closed loop in what is served: the same in PyTorch and in the graphs."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model.core.contract import ContractError, ModelSpec, entry_output, weights_digest
from model.core.loop_bias import NO_BIAS, LoopBias
from model.evaluation.runtime import GraphRuntime, Runtime, Tensors
from model.export.graph_export import describe, digest_weights, export
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import TrackingNetwork
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork

APART = LoopBias(answer=0.25, memory=1.0)
TOGETHER = LoopBias(answer=0.5, memory=0.5)
SIZE = (64, 96)


def toy(bias: LoopBias = NO_BIAS) -> TrackingNetwork:
    """A small network, always of the same weights."""
    torch.manual_seed(0)
    return RecurrentNetwork(replace(RECURRENT, loop_bias=bias), stateful=False).eval()


def torch_runtime(bias: LoopBias) -> TorchRuntime:
    return TorchRuntime(prepare_serving(toy(bias)), describe(toy(bias), "0" * 64))


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[LoopBias, Path]:
    """The exported graphs of each bias."""
    folders = {bias: tmp_path_factory.mktemp("biased") for bias in (NO_BIAS, APART)}
    for bias, folder in folders.items():
        export(toy(bias), folder)
    return folders


def clip_inputs(runtime: Runtime) -> Tensors:
    """Two frames with a memory of two entries of two objects, one of whose masks is soft."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (1, 2, *SIZE, 3), dtype=np.uint8)
    masks = np.zeros((1, 2, *SIZE), np.uint8)
    masks[:, 0, 10:40, 20:60] = 255
    masks[:, 1, 30:, 50:] = 180
    entry = runtime.memorize({"frame": frames[:, 0], "masks": masks})
    bank = {name: np.stack([value, value], axis=1) for name, value in entry.items()}
    age = np.array([[1, 0]], np.int32)
    return {**bank, "frames": frames, "age": age, "entry_valid": np.ones((1, 2, 2), np.bool_)}


@pytest.mark.parametrize("bias", [APART, TOGETHER])
def test_an_answer_bias_acts_on_the_logits(bias: LoopBias) -> None:
    plain, biased = torch_runtime(NO_BIAS), torch_runtime(bias)
    inputs = clip_inputs(plain)
    before = plain.segment(inputs)["masks"] / 255
    inside = (before > 0.02) & (before < 0.98)
    logits = np.log(before[inside] / (1 - before[inside])) + bias.answer
    after = biased.segment(inputs)["masks"][inside] / 255
    assert inside.mean() > 0.1
    assert after == pytest.approx(1 / (1 + np.exp(-logits)), abs=1.5 / 255)


@pytest.mark.parametrize("bias", [NO_BIAS, APART])
def test_graphs_and_pytorch_answer_and_remember_the_same(
    bias: LoopBias, graphs: dict[LoopBias, Path]
) -> None:
    ours, theirs = torch_runtime(bias), GraphRuntime(graphs[bias], "recurrent", threads=1)
    inputs = clip_inputs(ours)
    one, other = ours.segment(inputs), theirs.segment(inputs)
    assert np.abs(one["masks"].astype(int) - other["masks"]).max() <= 1
    for tensor in ours.spec.bank:
        name = entry_output(tensor.name)
        assert other[name] == pytest.approx(one[name], abs=2e-3)
    assert theirs.spec.loop_bias == bias


@pytest.mark.parametrize("bias", [APART, TOGETHER])
def test_what_is_remembered_is_biased_unless_it_is_the_answer(bias: LoopBias) -> None:
    runtime = torch_runtime(bias)
    inputs = clip_inputs(runtime)
    found = runtime.segment(inputs)
    answered = found["masks"][:, -1]
    stored = {"answered": answered, "remembered": bias.remember(answered)}
    looks = {
        name: runtime.memorize({"frame": inputs["frames"][:, -1], "masks": masks})["look"]
        for name, masks in stored.items()
    }
    apart = np.abs(looks["remembered"] - looks["answered"]).max()
    assert found["entry_look"] == pytest.approx(looks["remembered"], abs=2e-4)
    assert (apart == 0) if bias.together else (apart > 1e-3)


def test_what_is_rebuilt_from_the_stored_masks_is_the_entry_bit_for_bit(
    graphs: dict[LoopBias, Path],
) -> None:
    runtime = GraphRuntime(graphs[APART], "recurrent", threads=1)
    inputs = clip_inputs(runtime)
    found = runtime.segment(inputs)
    stored = APART.remember(found["masks"][:, -1])
    rebuilt = runtime.memorize({"frame": inputs["frames"][:, -1], "masks": stored})
    for tensor in runtime.spec.bank:
        assert np.array_equal(found[entry_output(tensor.name)], rebuilt[tensor.name])


def test_given_masks_are_remembered_as_they_are(graphs: dict[LoopBias, Path]) -> None:
    entries = [
        clip_inputs(GraphRuntime(folder, "recurrent", threads=1))["look"]
        for folder in graphs.values()
    ]
    assert all(np.array_equal(entries[0], entry) for entry in entries)


def test_a_graph_without_bias_tells_and_computes_nothing_of_it(
    graphs: dict[LoopBias, Path],
) -> None:
    paths = {bias: graphs[bias] / "recurrent_segment.onnx" for bias in (NO_BIAS, APART)}
    assert [b"loop_bias" in path.read_bytes() for path in paths.values()] == [False, True]
    plain, biased = (
        Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
        for path in paths.values()
    )
    assert biased["Add"] == plain["Add"] + 1
    assert biased.total() > plain.total() + 1


def test_a_loop_with_a_bias_is_another_model() -> None:
    state = toy().state_dict()
    values = {name: tensor.numpy() for name, tensor in state.items()}
    assert digest_weights(state, NO_BIAS) == weights_digest(values)
    assert len({digest_weights(state, bias) for bias in (NO_BIAS, APART, TOGETHER)}) == 3


def test_the_spec_carries_the_biases() -> None:
    spec = describe(toy(APART), "0" * 64)
    assert ModelSpec.from_json(spec.to_json()).loop_bias == APART
    assert ModelSpec.from_json(describe(toy(), "0" * 64).to_json()).loop_bias == NO_BIAS
    beyond = spec.to_json().replace('"memory":1.0', '"memory":9.0')
    with pytest.raises(ContractError, match="memory bias"):
        ModelSpec.from_json(beyond)
