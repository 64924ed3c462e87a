"""The benchmark times the same work on both sides."""

import pytest
import torch

from model.commands.bench import KEPT_BLOCKS, Setting, Timing, measure, table
from model.commands.options import parse_size
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.registry import NETWORKS, Blueprint
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.config import TamvtConfig
from model.networks.tamvt.reference import ReferenceTamVT

SMALL = TamvtConfig(
    name="small",
    backbone="resnet18",
    hidden=32,
    widths=(32, 32, 32, 32),
    decoder_layers=2,
    decoder_heads=4,
    feedforward=48,
    norm_groups=8,
)


def test_both_ways_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "small", Blueprint(SMALL, build_tamvt, ReferenceTamVT))
    model = build_tamvt(SMALL).eval()
    runtime = TorchRuntime(prepare_serving(model), describe(model, "0" * 64))
    setting = Setting(height=64, width=96, clip_length=2, memory_size=3)
    with torch.inference_mode():
        timing = measure(model, runtime, setting, objects=2, rounds=1)
    assert timing.objects == 2
    assert timing.reference_s > 0
    assert timing.graphs_s > 0


def test_the_table_says_how_many_times_faster() -> None:
    rows = table(
        [Timing(objects=1, reference_s=2.4, graphs_s=1.0), Timing(2, 4.5, 1.5)]
    ).splitlines()
    assert rows[2:] == ["| 1 | 2.40 | 1.00 | 2.40 | 2.2 |", "| 2 | 4.50 | 1.50 | 3.00 |  |"]


def test_a_size_is_height_times_width() -> None:
    assert parse_size("480x864") == (480, 864)


def test_the_malloc_settings_are_those_of_the_makefile() -> None:
    with open("Makefile", encoding="utf-8") as makefile:
        text = makefile.read().replace("\\\n\t", "")
    assert " ".join(f"{name}={value}" for name, value in KEPT_BLOCKS.items()) in text
