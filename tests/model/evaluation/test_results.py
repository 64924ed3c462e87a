"""Rows of results are kept as they were measured, and scores are those of the whole video."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.data.video import open_video
from model.evaluation.results import add_row, read_rows, track_and_score
from model.evaluation.runtime import GraphRuntime
from tests.support.toy_model import write_toy_model


def test_rows_come_back_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert read_rows(path) == []
    first, second = {"row": "full", "j": "0.5"}, {"row": "one, scale", "j": "0.25"}
    assert add_row(path, first) == [first]
    assert add_row(path, second) == [first, second]
    assert read_rows(path) == [first, second]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.csv"]


def test_whole_videos_are_scored_and_timed(drawn_data: Path, tmp_path: Path) -> None:
    write_toy_model(tmp_path)
    video = open_video(drawn_data / "video", "kept")
    result = track_and_score(
        GraphRuntime(tmp_path, "toy", threads=1), [video, replace(video, name="again")]
    )
    assert [len(each.frames) for each in result.scores] == [10, 10]  # without the first and last
    assert result.rate > 0
    cells = result.cells()
    both = (float(cells["j"]) + float(cells["f"])) / 2
    assert float(cells["j_and_f"]) == pytest.approx(both, abs=1e-5)
