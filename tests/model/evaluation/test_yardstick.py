"""Scores on the yardstick: what a clip scores, and when one model is better than another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.__main__ import main
from model.data.yardstick import HardClip
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker
from model.evaluation.yardstick import (
    ClipScore,
    paired_interval,
    read_scores,
    score_clip,
    write_scores,
    yardstick_table,
)
from tests.support import scene


def walking(*, away: int | None = None) -> HardClip:
    """The scene that the toy model tracks; from frame `away` on the truth is empty."""
    labels = np.stack([scene.labels(number) for number in range(9)])
    if away is not None:
        labels[away:] = 0
    return HardClip("walk", tuple(scene.png(number) for number in range(9)), labels)


def test_a_clip_that_is_tracked_scores_full_marks(toy_folder: Path) -> None:
    score = score_clip(GraphRuntime(toy_folder, "toy", threads=1), walking())
    assert score.j == pytest.approx(1, abs=0.1)
    assert max(score.missed + score.wrong) < 0.1


def test_what_is_wrong_shows_in_its_third(toy_folder: Path) -> None:
    score = score_clip(GraphRuntime(toy_folder, "toy", threads=1), walking(away=7))
    assert score.wrong[2] > 0.5 > score.wrong[0]
    assert max(score.missed) < 0.1
    assert score.last < score.first


def test_a_gain_in_every_clip_is_a_gain() -> None:
    mean, low, high = paired_interval([0.1, 0.5, 0.9, 0.3], [0.2, 0.6, 1.0, 0.4])
    assert (mean, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_a_gain_in_one_clip_of_many_is_none() -> None:
    one = np.linspace(0.2, 0.8, 12)
    other = one + np.array([0.5, -0.05] * 1 + [-0.04] * 10)
    mean, low, high = paired_interval(one.tolist(), other.tolist())
    assert low < 0 < high
    assert low < mean < high


def test_scores_are_kept_with_what_they_are_of(tmp_path: Path) -> None:
    scores = {"tiny": [ClipScore("tiny-00", 0.5, (0.1, 0.2, 0.3), (0.0, 0.0, 0.1), 0.6, 0.4)]}
    write_scores(tmp_path / "scores.json", scores, about={"weights": "abc"})
    assert read_scores(tmp_path / "scores.json") == scores
    better = {"tiny": [ClipScore("tiny-00", 0.6, (0.1, 0.2, 0.3), (0.0, 0.0, 0.1), 0.6, 0.5)]}
    row = yardstick_table(better, scores).splitlines()[-1]
    assert row.startswith("| tiny | 1 | 50.0 | 60.0 | +10.0 (+10.0 to +10.0) | 10.0 20.0 30.0 |")


def test_scores_of_other_clips_are_not_compared() -> None:
    old = {"tiny": [ClipScore("tiny-09", 0.5, (0.0,) * 3, (0.0,) * 3, 0.6, 0.4)]}
    new = {"tiny": [ClipScore("tiny-00", 0.6, (0.0,) * 3, (0.0,) * 3, 0.6, 0.5)]}
    assert yardstick_table(new, old).splitlines()[-1].startswith("| tiny | 1 |  | 60.0 |  |")


def test_the_command_scores_and_writes(
    drawn_data: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["yardstick", "toy", "--graphs", str(toy_folder), "--data", str(drawn_data)]
    target = tmp_path / "out" / "scores.json"
    assert main([*words, "--sets", "held-out", "--threads", "1", "-o", str(target)]) == 0
    assert "| held-out | 1 |" in capsys.readouterr().out
    assert set(read_scores(target)) == {"held-out"}


def test_missing_graphs_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["yardstick", "none", "--graphs", str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_another_use_of_the_memory_is_scored_as_asked_for(toy_folder: Path) -> None:
    asked: list[dict[str, Any]] = []

    class Noting(OfflineTracker):
        def __init__(self, *given: Any, **options: Any) -> None:
            asked.append(options)
            super().__init__(*given, memory_size=options["memory_size"])

    runtime = GraphRuntime(toy_folder, "toy", threads=1)
    score_clip(runtime, walking(), clip_length=1, memory_size=3, memory_gate=True, tracker=Noting)
    assert asked == [{"clip_length": 1, "memory_size": 3, "memory_gate": True}]
