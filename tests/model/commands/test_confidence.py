"""The command `tamvt-model confidence`: its tables."""

import csv
from pathlib import Path

import pytest

from model.__main__ import main
from model.commands.confidence import Watched, measure_phases, report, score_emptied
from model.evaluation.confidence_quality import Observation


def observation(
    number: int, *, true: float, share: float, iou: float, lost: bool = False
) -> Observation:
    return Observation(number, true, share, iou, 0.9, 0.9, lost, (0.0, 0.0, 0.0))


CLIP = (
    observation(1, true=0.1, share=0.1, iou=0.8),
    observation(2, true=0.0, share=0.2, iou=0.0),
    observation(3, true=0.0, share=0.2, iou=0.0, lost=True),
    observation(4, true=0.0, share=0.0, iou=1.0, lost=True),
    observation(5, true=0.0, share=0.0, iou=1.0, lost=True),
    observation(6, true=0.1, share=0.1, iou=0.6),
    observation(7, true=0.1, share=0.1, iou=0.4, lost=True),
)


def test_a_clip_has_a_before_a_while_away_and_an_after() -> None:
    assert measure_phases(CLIP) == pytest.approx((0.8, 0.5, 0.25, 0.5, 0.3))


@pytest.mark.parametrize(("index", "iou"), [(0, 0.8), (1, 0.0), (2, 1.0), (6, 0.0)])
def test_an_emptied_mask_is_right_where_the_object_is_away(index: int, iou: float) -> None:
    assert score_emptied(CLIP[index]) == iou


def test_the_report_has_a_row_for_each_kind_and_gate() -> None:
    clips = [
        Watched("0", gate, CLIP, kind) for kind in ("leaves", "covered") for gate in (False, True)
    ]
    videos = [Watched("walk", gate, CLIP) for gate in (False, True)]
    text = report([*clips, *videos], "dev", calibrated=True)
    assert "| leaves (1) | on | 80.0 | 50.0 | 25.0 | 50.0 | 30.0 |" in text
    assert "| all (2) | off | 80.0 |" in text
    assert "| walk | on |" in text
    assert "gate on less off: +0.0, standard error 0.0" in text


def test_the_command_writes_tables_and_every_frame(
    toy_folder: Path,
    tmp_path: Path,
    drawn_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAMVT_DATA", str(drawn_data))
    words = ["confidence", "toy", "--graphs", str(toy_folder), "--clips", "2", "--threads", "1"]
    assert main([*words, "-o", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (tmp_path / "confidence.md").read_text() + "\n"
    with (tmp_path / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["name"] for row in rows} == {"1000-000", "1000-001", "kept"}
    assert {row["gate"] for row in rows} == {"off", "on"}


def test_missing_data_are_named(
    toy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TAMVT_DATA", str(tmp_path))
    assert main(["confidence", "toy", "--graphs", str(toy_folder)]) == 2
    assert "dev.txt" in capsys.readouterr().err
