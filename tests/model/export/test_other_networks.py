"""STM and QMVOS as graphs: the same masks as PyTorch's, their state carried from clip to clip."""

from pathlib import Path

import pytest
import torch

from model.evaluation.runtime import GraphRuntime
from model.export.graph_export import export
from model.export.parity import check_parity, read_photograph
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import count_parameters
from model.networks.registry import build_network


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "capabilities", "entry_by"),
    [
        ("stm-mobile", ("aggregated",), "segment"),
        ("qmvos-mobile", ("aggregated", "state"), "memorize"),
    ],
)
def test_graphs_say_what_pytorch_says(
    tmp_path: Path, name: str, capabilities: tuple[str, ...], entry_by: str
) -> None:
    torch.manual_seed(0)
    network = build_network(name, short_side=64)
    spec = export(network, tmp_path, half=True)  # as they ship
    stored = (tmp_path / f"{name}.weights").stat().st_size
    assert stored < 2.4 * count_parameters(network)
    assert (spec.contract, spec.capabilities, spec.entry_by) == (2, capabilities, entry_by)
    graphs = GraphRuntime(tmp_path, name, threads=1)
    torch_runtime = TorchRuntime(prepare_serving(network, half=True), spec)
    parity = check_parity(graphs, torch_runtime, [read_photograph()], clips=12)
    assert parity.holds, str(parity)
