"""Models side by side: the same videos and clips, timed in turns, in one table and one plot."""

import json
import shutil
from pathlib import Path

import pytest

from model.__main__ import main
from model.commands.compare import find_graphs
from model.data.errors import DataError
from model.evaluation.side_by_side import (
    ComparedModel,
    comparison_table,
    draw_comparison,
    make_steps,
    time_frames,
)
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.registry import build_network
from service.engines.graphs import open_graphs
from tests.support.toy_model import LESS_STEEP, write_toy_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The graphs of two models."""
    write_toy_model(tmp_path / "graphs")
    write_toy_model(tmp_path / "graphs", name="other", weights=LESS_STEEP)
    return tmp_path / "graphs"


def test_models_are_compared_and_what_they_score_is_recorded(
    folder: Path, drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Recorded is J on `dev`; the weights, and what is served of them, stay as they are."""
    before = open_graphs(folder, "toy", threads=1).spec
    options = ["--data", str(drawn_data), "--sets", "dev", "--rounds", "1", "--threads", "1"]
    assert main(["compare", str(folder), *options, "-o", str(tmp_path / "out"), "--record"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows[2:4]] == ["| other", "| toy"]
    kept = json.loads((tmp_path / "out/compare.json").read_text())["models"]
    assert [model["name"] for model in kept] == ["other", "toy"]
    assert all(milliseconds > 0 for model in kept for milliseconds in model["frame_ms"].values())
    assert rows[2] in (tmp_path / "out/compare.md").read_text()
    assert "<svg" in (tmp_path / "out/compare.svg").read_text()
    after = open_graphs(folder, "toy", threads=1).spec
    assert after.measured is not None
    assert after.measured.dev_j == pytest.approx(100 * kept[1]["dev"]["j"], abs=0.05)
    assert after.weights_sha256 == before.weights_sha256


def test_what_cannot_be_compared_is_told_in_a_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty")]) == 2
    assert main(["compare", str(folder), "--only", "stm-mobile"]) == 2
    assert main(["compare", str(folder), "--sets", "twins", "--record"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[2] for line in told] == [
        f"there are no graphs in {tmp_path / 'empty'}",
        "there are no graphs of stm-mobile in the folders",
        "--record needs the set dev",
    ]


def test_models_of_one_name_are_shown_with_their_folders(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "newer")
    found = find_graphs([folder, tmp_path / "newer"], ["toy"])
    assert [each.shown for each in found] == ["toy", "newer/toy"]
    with pytest.raises(DataError, match="no graphs of missing"):
        find_graphs([folder], ["missing"])


@pytest.mark.parametrize("name", ["stm-mobile", "qmvos-mobile", "stma-mobile"])
def test_each_of_the_family_is_timed_as_it_is_served(name: str) -> None:
    """QMVOS pays a share of `memorize`, and takes a state."""
    network = build_network(name, short_side=64).eval()
    runtime = TorchRuntime(prepare_serving(network), describe(network, "0" * 64))
    shares = [share for _, share in make_steps(runtime, objects=2)]
    assert shares == ([1, 1 / 5] if name == "qmvos-mobile" else [1])
    assert time_frames({name: runtime}, objects=2, rounds=1)[name] > 0


def measured(name: str, j: float, **more: object) -> ComparedModel:
    scores = {"dev": [j, j], "twins": [j - 0.2]}
    dev = {"j": j, "f": j + 0.1, "j_tr": j - 0.1}
    times = {1: 20.0, 3: 40.0}
    return ComparedModel(name, "abc", 172_032, scores, dev, times, **more)  # type: ignore[arg-type]


def test_a_table_says_what_is_gained_over_the_first() -> None:
    """Where there is no build of that name nothing is counted."""
    counted = measured("a", 0.5, macs={1: 2_070_000_000, 3: 4_420_000_000}, parameters=1_820_226)
    rows = comparison_table([counted, measured("b", 0.6)]).splitlines()[2:]
    assert rows == [
        "| a | 50.0 | 60.0 | 40.0 | 30.0 |  | 50 | 25 | 2.1 | 4.4 | 172 | 1.8 |",
        "| b | 60.0 | 70.0 | 50.0 | 40.0 | +10.0 (+10.0 to +10.0) | 50 | 25 |  |  | 172 |  |",
    ]


def test_a_plot_names_every_model_and_is_the_same_at_every_call() -> None:
    models = [measured("first", 0.5), measured("second", 0.6)]
    drawn = draw_comparison(models)
    assert all(f">{name}</text>" in drawn for name in ("first", "second"))
    assert drawn == draw_comparison(models)
