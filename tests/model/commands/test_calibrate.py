"""The command `tamvt-model calibrate`: what it fits, and what it writes."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from model.__main__ import main
from model.commands.calibrate import (
    describe_fit,
    fit,
    fit_logistic,
    reclassify,
)
from model.core.confidence import Calibration
from model.data.errors import DataError
from model.evaluation.confidence_quality import Observation, measure_quality
from model.export.graph_export import rewrite_spec
from service.engines.graphs import open_graphs
from tests.model.data.drawings import write_palette
from tests.support import scene
from tests.support.toy_model import write_toy_model

CALIBRATION = Calibration(
    bias=-1.0, sureness=2.0, wholeness=0.5, size=0.25, threshold=0.6, memory_gate=True
)


def made_up(count: int) -> list[Observation]:
    """Frames whose masks are the likelier good the surer the model is; every tenth is empty."""
    rng = np.random.default_rng(0)
    observations = []
    for number in range(count):
        sureness, wholeness, size = rng.normal(1, 2), -rng.exponential(0.3), rng.normal(-4, 1)
        chance = 1 / (1 + np.exp(-(2.0 * sureness + 3.0 * wholeness - 1.0)))
        good = bool(rng.random() < chance)
        empty = number % 10 == 0
        observations.append(
            Observation(
                frame=number,
                true_share=0.0 if empty else 0.1,
                share=0.0 if empty else 0.1,
                iou=1.0 if empty else 0.9 * good,
                raw=0.0 if empty else 0.9,
                confidence=0.0 if empty else 0.9,
                lost=empty,
                features=None if empty else (sureness, wholeness, size),
            )
        )
    return observations


def test_the_regression_finds_the_weights_that_made_the_data() -> None:
    told = [each for each in made_up(4000) if each.features is not None]
    values = np.array([each.features for each in told])
    weights = fit_logistic(values, np.array([each.good for each in told]))
    assert weights[1:] == pytest.approx([2.0, 3.0, 0.0], abs=0.35)
    assert weights @ (1.0, 0.0, 0.0, -4.0) == pytest.approx(-1.0, abs=0.35)  # at the usual size


def test_what_is_fitted_says_about_what_happens() -> None:
    observations = made_up(4000)
    calibration = fit(observations, 0.5)
    found = measure_quality(reclassify(observations, calibration))
    assert found.error < 0.03 < found.raw_error
    assert found.precision > 0.75
    assert found.recall > 0.75


def test_too_little_to_tell_is_an_error() -> None:
    with pytest.raises(DataError, match="too few"):
        fit(made_up(30), 0.5)


def test_the_calibration_goes_into_both_graphs_and_nothing_else_changes(
    toy_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "graphs"
    shutil.copytree(toy_folder, folder)
    before = open_graphs(folder, "toy", threads=1).spec
    written = rewrite_spec(folder, "toy", calibration=CALIBRATION)
    after = open_graphs(folder, "toy", threads=1).spec
    assert after == written
    assert after.calibration == CALIBRATION
    assert after.weights_sha256 == before.weights_sha256
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in toy_folder.iterdir()
    )


def test_a_model_is_calibrated_anew(toy_folder: Path, tmp_path: Path) -> None:
    write_toy_model(tmp_path, calibration=CALIBRATION)
    other = Calibration(0.0, 1.0, 0.0, 0.0, 0.5)
    assert rewrite_spec(tmp_path, "toy", calibration=other).calibration == other


def test_it_says_what_it_fitted() -> None:
    text = describe_fit(CALIBRATION, measure_quality(made_up(100)))
    assert "lost below 0.6; memory gate on" in text
    assert "100 frames" in text


def test_missing_graphs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["calibrate", "--graphs", str(tmp_path)]) == 2
    assert "no graphs of tamvt-mobile" in capsys.readouterr().err


def test_too_few_clips_leave_the_graphs_as_they_were(
    toy_folder: Path,
    tmp_path: Path,
    drawn_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAMVT_DATA", str(drawn_data))
    folder = tmp_path / "graphs"
    shutil.copytree(toy_folder, folder)
    words = ["calibrate", "toy", "--graphs", str(folder), "--returning", "0", "--hard", "1"]
    assert main(words) == 2
    assert "too few" in capsys.readouterr().err
    assert open_graphs(folder, "toy", threads=1).spec.calibration is None


@pytest.fixture
def plain_data(tmp_path: Path) -> Path:
    """Pictures and videos that the toy model follows: a red square on a gray floor."""
    root = tmp_path / "data"
    for number in range(4):
        write_frame(root / "static" / "plain", root / "static" / "plain", number)
    for name in ("walk", "kept"):
        for number in range(12):
            write_frame(root / "video" / name / "frames", root / "video" / name / "masks", number)
    (root / "video" / "train.txt").write_text("walk\n")
    (root / "video" / "dev.txt").write_text("kept\n")
    return root


def write_frame(images: Path, masks: Path, number: int) -> None:
    write_palette(masks / f"{number:05d}.png", scene.labels(number))
    images.mkdir(parents=True, exist_ok=True)
    (images / f"{number:05d}.jpg").write_bytes(scene.jpeg(number))


def test_the_command_calibrates_the_graphs(
    toy_folder: Path,
    tmp_path: Path,
    plain_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAMVT_DATA", str(plain_data))
    folder = tmp_path / "graphs"
    shutil.copytree(toy_folder, folder)
    words = ["calibrate", "toy", "--graphs", str(folder), "--returning", "1"]
    assert main([*words, "--hard", "24", "--threads", "1", "--memory-gate"]) == 0
    assert "toy is calibrated" in capsys.readouterr().out
    spec = open_graphs(folder, "toy", threads=1).spec
    assert spec.calibration is not None
    assert spec.memory_gate is True
