"""Rows of the ablation table: trained once each, gone on with, and compared with `full`."""

import csv
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.__main__ import main
from model.commands.ablate import (
    Run,
    ablate,
    count_trained_entries,
    plan_runs,
    rebuild,
    table,
    train,
)
from model.data.video import Video, open_video
from model.evaluation.results import read_rows
from model.export.serving import prepare_serving
from model.training.recipes import ablation
from model.training.trainer import Trainer

pytestmark = pytest.mark.timeout(600)  # whole trainings, however small


def small(data: Path, row: str, *, seed: int = 1, steps: int = 2) -> Run:
    """A run that takes moments: one clip of three frames of 32 pixels a step, in fp32."""
    config = ablation(data, row)
    clips = replace(config.samples, crop=32, frames=3, batch=1, seed=seed, static_sets=("ecssd",))
    config = replace(config, samples=clips, steps=steps, backbone_weights=None)
    return Run(row, seed, replace(config, half=False, device="cpu", warm_up=1))


@pytest.fixture
def video(drawn_data: Path) -> Video:
    """Three frames, one of which counts."""
    whole = open_video(drawn_data / "video", "kept")
    return replace(whole, frames=whole.frames[:3], masks=whole.masks[:3])


def steps_of(folder: Path) -> list[int]:
    """The steps that a training logged."""
    with (folder / "log.csv").open() as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_each_row_is_trained_and_scored(
    drawn_data: Path, video: Video, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["without-time", "one-scale", "backbone-masks"]
    runs = [small(drawn_data, row, steps=1) for row in names]
    assert ablate(runs, [video], tmp_path, workers=0) == 0
    rows = read_rows(tmp_path / "rows.csv")
    assert [row["row"] for row in rows] == names
    assert all(0 <= float(row["j_and_f"]) <= 1 for row in rows)
    written = (tmp_path / "table.md").read_text()
    assert written in capsys.readouterr().out
    assert [f"| `{row}` |" in written for row in names] == [True] * 3
    assert (tmp_path / "one-scale" / "seed1-steps1" / "objects.csv").is_file()


def test_a_row_that_is_done_is_not_trained_again(
    drawn_data: Path, video: Video, tmp_path: Path
) -> None:
    first, second = small(drawn_data, "full"), small(drawn_data, "full", seed=2)
    assert ablate([first], [video], tmp_path, workers=0) == 0
    checkpoint = tmp_path / first.folder / "last.pt"
    before = checkpoint.stat().st_mtime_ns
    assert ablate([first, second], [video], tmp_path, workers=0) == 0
    assert checkpoint.stat().st_mtime_ns == before
    assert [row["seed"] for row in read_rows(tmp_path / "rows.csv")] == ["1", "2"]


def test_other_steps_are_another_training(drawn_data: Path, video: Video, tmp_path: Path) -> None:
    assert ablate([small(drawn_data, "full", steps=1)], [video], tmp_path, workers=0) == 0
    assert ablate([small(drawn_data, "full", steps=2)], [video], tmp_path, workers=0) == 0
    assert [row["steps"] for row in read_rows(tmp_path / "rows.csv")] == ["1", "2"]
    assert (tmp_path / "table.md").read_text().count("| `full` |") == 1


def test_an_interrupted_row_goes_on_from_its_checkpoint(
    drawn_data: Path, video: Video, tmp_path: Path
) -> None:
    run = small(drawn_data, "full")
    begun = Trainer(replace(run.config, steps=1), tmp_path / run.folder)
    (tmp_path / run.folder).mkdir(parents=True)
    begun.run(workers=0)
    assert ablate([run], [video], tmp_path, workers=0) == 0
    assert steps_of(tmp_path / run.folder) == [1, 2]


def test_told_to_stop_it_leaves_a_checkpoint_and_no_row(
    drawn_data: Path, video: Video, tmp_path: Path
) -> None:
    run = small(drawn_data, "full", steps=100_000)
    log = tmp_path / run.folder / "log.csv"

    def stop() -> None:
        while not (log.exists() and steps_of(log.parent)):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop, daemon=True)
    thread.start()
    assert ablate([run], [video], tmp_path, workers=0) == 128 + signal.SIGTERM
    thread.join()
    assert (log.parent / "last.pt").is_file()
    assert not (tmp_path / "rows.csv").exists()


def test_a_training_teaches_as_many_rows_of_time_as_it_matches(drawn_data: Path) -> None:
    matched = {
        row: count_trained_entries(ablation(drawn_data, row)) for row in ("full", "frames-12")
    }
    assert matched == {"full": 3, "frames-12": 6}
    assert count_trained_entries(small(drawn_data, "full").config) == 1


def test_rows_of_time_that_were_not_trained_are_interpolated(
    drawn_data: Path, tmp_path: Path
) -> None:
    run = small(drawn_data, "additive-time", steps=1)
    last = train(run, tmp_path, workers=0)
    assert last is not None
    state = torch.load(last, weights_only=True)
    state["model"]["time.table"][:] = torch.tensor([0.5] + [9.0] * 44)
    torch.save(state, last)
    table_served = prepare_serving(rebuild(run.config, last)).get_parameter("time.table")
    assert set(table_served.tolist()) == {0.5}


def test_runs_are_made_one_seed_after_the_other(drawn_data: Path) -> None:
    runs = plan_runs(drawn_data, ["full", "center"], [3, 4], steps=20)
    assert [(run.row, run.seed) for run in runs] == [
        ("full", 3), ("center", 3), ("full", 4), ("center", 4),
    ]  # fmt: skip
    assert {(run.config.steps, run.config.warm_up) for run in runs} == {(20, 2)}
    assert [run.config.samples.seed for run in runs] == [3, 3, 4, 4]


def test_what_cannot_begin_is_said(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["ablate", "-o", str(tmp_path), "--data", str(drawn_data), "--workers", "0"]
    assert main([*words, "--rows", "full,nothing"]) == 2
    assert main([*words, "--steps", "0"]) == 2
    assert main([*words, "--rows", "full"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "no row nothing: there are full, without-time" in told[0]
    assert "steps must be at least 1" in told[1]
    assert "mobilenet_v2_imagenet.pth" in told[2]


def rows_of(**values: tuple[float, ...]) -> list[dict[str, str]]:
    """Rows whose J, F and J&F, in percent, are the given ones, seed by seed."""
    return [
        {"row": row.replace("_", "-"), "seed": str(seed), "steps": "300"}
        | {name: str(value / 100) for name in ("j", "f", "j_and_f")}
        for row, each in values.items()
        for seed, value in enumerate(each, 1)
    ]


def lines_of(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    """The cells of the table by row, without the paper's column."""
    lines = table(rows).splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {each[0].strip("`"): [cell.strip() for cell in each[1:-1]] for each in cells}


def test_a_difference_beyond_the_spread_stands() -> None:
    lines = lines_of(rows_of(full=(60, 61), one_scale=(50, 52)))
    assert lines["full"] == ["1, 2", "60.5", "60.5", "60.5", "1.0", "", ""]
    assert lines["one-scale"] == ["1, 2", "51.0", "51.0", "51.0", "2.0", "-9.5", ""]


@pytest.mark.parametrize("full", [(60.0, 64.0), (61.9, 62.1)])
def test_a_difference_within_either_spread_is_not_separable(full: tuple[float, ...]) -> None:
    lines = lines_of(rows_of(full=full, additive_time=(61, 65)))
    assert lines["additive-time"][-2:] == ["+1.0", "not separable at our scale"]


def test_one_seed_tells_no_spread() -> None:
    lines = lines_of(rows_of(full=(60,), without_time=(50,)))
    assert lines["without-time"][3:] == ["50.0", "", "-10.0", "one seed tells no spread"]


def test_without_full_there_is_nothing_to_compare_with() -> None:
    assert lines_of(rows_of(without_time=(50, 51)))["without-time"][-1] == "`full` is not done"
