"""A network is known by its description alone: another than TAM-VT trains and is exported."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.evaluation.runtime import GraphRuntime, Runtime, Tensors
from model.evaluation.tracker import OfflineTracker
from model.export.graph_export import export
from model.export.parity import check_parity, read_photograph
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import NetworkError, join_frames, take_frames
from model.networks.registry import build_network, find_config
from model.training.losses import LossConfig
from model.training.unroll import LoopConfig, SampleLoss
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork

ROOT = Path(__file__).parents[3]


def test_only_its_folder_and_the_registry_know_tamvt() -> None:
    elsewhere = [
        str(path.relative_to(ROOT))
        for folder in ("model", "scripts", "service")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bTamVT\b", path.read_text(encoding="utf-8"))
    ]
    own = "model/networks/tamvt/"
    assert [name for name in elsewhere if not name.startswith(own)] == []
    assert elsewhere


def test_an_unknown_network_is_named() -> None:
    with pytest.raises(NetworkError, match="'tamvt-tiny'"):
        build_network("tamvt-tiny")
    assert find_config("tamvt-mobile").memory_size == 5


def test_numbers_of_a_network_can_be_changed() -> None:
    assert build_network("tamvt-mobile", memory_size=9).config.memory_size == 9


def test_features_are_taken_and_joined_frame_by_frame() -> None:
    network = build_network("tamvt-mobile-one-scale").eval()
    with torch.inference_mode():
        features = network.encode_frames(torch.randn(3, 3, 64, 64))
        parts = [take_frames(features, slice(index, index + 1)) for index in range(3)]
        joined = join_frames(parts)
    assert type(joined) is type(features)
    assert torch.equal(joined.images, features.images)
    assert [each.shape for each in joined.maps] == [each.shape for each in features.maps]
    assert len(joined.tokens) == 1
    assert torch.equal(joined.tokens[0], features.tokens[0])


@pytest.mark.parametrize("recompute", [False, True])
def test_a_network_with_a_state_is_trained(recompute: bool) -> None:
    network = RecurrentNetwork(RECURRENT)
    loop = LoopConfig(memory_size=2, silent_clips=1)
    loss_of = SampleLoss(network, LossConfig("hard"), recompute=recompute, loop=loop)
    frames = torch.randint(0, 256, (2, 5, 32, 32, 3), dtype=torch.uint8)
    masks = torch.zeros(2, 5, 32, 32, dtype=torch.uint8)
    masks[:, :, 8:20, 8:20] = 1
    loss, _ = loss_of(frames, masks, 1.0, False)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("entry_by", ["segment", "memorize"])
def test_graphs_carry_a_state_as_the_network_does(
    tmp_path: Path, entry_by: Literal["segment", "memorize"]
) -> None:
    network = RecurrentNetwork(replace(RECURRENT, entry_by=entry_by))
    spec = export(network, tmp_path)
    assert (spec.contract, spec.capabilities, spec.entry_by) == (2, ("state",), entry_by)
    graphs = GraphRuntime(tmp_path, "recurrent", threads=1)
    labels = np.zeros((64, 96), np.uint8)
    labels[8:40, 8:40], labels[8:40, 50:90] = 1, 2
    images = [cv2.imencode(".png", image)[1].tobytes() for image in noise(5)]
    runtimes: tuple[Runtime, ...] = (graphs, TorchRuntime(prepare_serving(network), spec))
    trackers = [OfflineTracker(runtime, images[0], labels) for runtime in runtimes]
    ours, theirs = (list(tracker.track(images[1:])) for tracker in trackers)
    for mine, their in zip(ours, theirs, strict=True):
        assert np.abs(mine.soft.astype(int) - their.soft).max() <= 1
    seen = {"frame": noise(1), "masks": np.full((1, 1, 64, 96), 255, np.uint8)}
    for runtime in runtimes:
        after = [
            runtime.memorize({**seen, "last": np.full((1, 1, 1, 4), value, np.float16)})
            for value in (0, 8)
        ]
        assert np.allclose(after[1]["next_last"] - after[0]["next_last"], 4, atol=0.05)
    without = OfflineTracker(Forgetful(graphs), images[0], labels)
    assert any(
        np.abs(mine.soft.astype(int) - other.soft).max() > 1
        for mine, other in zip(ours, without.track(images[1:]), strict=True)
    )


def noise(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


class Forgetful:
    """A runtime whose state is always that before a first frame."""

    def __init__(self, runtime: Runtime) -> None:
        self.spec, self.runtime = runtime.spec, runtime

    def memorize(self, inputs: Tensors) -> Tensors:
        return self.runtime.memorize({**inputs, "last": np.zeros_like(inputs["last"])})

    def segment(self, inputs: Tensors) -> Tensors:
        return self.runtime.segment({**inputs, "last": np.zeros_like(inputs["last"])})


def test_a_bank_of_single_tokens_is_exported(tmp_path: Path) -> None:
    network = RecurrentNetwork(RECURRENT, stateful=False)
    spec = export(network, tmp_path)
    assert spec.buckets.clip_lengths == (1,)
    assert [tensor.slot_shape((64, 96), objects=3) for tensor in spec.bank] == [(1, 4), (3, 1, 4)]
    graphs = GraphRuntime(tmp_path, "recurrent", threads=1)
    entry = graphs.memorize(
        {
            "frame": np.zeros((1, 64, 96, 3), np.uint8),
            "masks": np.full((1, 3, 64, 96), 255, np.uint8),
        }
    )
    assert {name: (each.dtype.name, each.shape) for name, each in entry.items()} == {
        "scene": ("float32", (1, 1, 4)),
        "look": ("float16", (1, 3, 1, 4)),
    }
    ours = TorchRuntime(prepare_serving(network), spec)
    assert check_parity(ours, graphs, [read_photograph()], clips=3).holds


def test_a_network_says_what_it_lacks() -> None:
    network = RecurrentNetwork(RECURRENT)
    with pytest.raises(NetworkError, match="no attention"):
        network.attend((), None, x=0.5, y=0.5)  # type: ignore[arg-type]
    with pytest.raises(NetworkError, match="no checkpoints but ours"):
        network.rename_published({})
