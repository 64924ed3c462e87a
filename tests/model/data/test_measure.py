"""The measurement of clips: numbers that add up, and a sheet to look at."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.__main__ import main
from model.data.errors import DataError
from model.data.measure import draw_sheet, measure, measure_shares, write_sheet
from model.data.samples import Sample, SampleConfig, draw_sample
from model.data.static import read_rgb


def test_a_measurement_tells_time_and_shares(config: SampleConfig) -> None:
    threads = cv2.getNumThreads()
    found = measure(replace(config, synthetic_share=0.5), 8)
    assert found.samples_a_second == found.batch / found.batch_s > 0
    assert found.shares["static"] + found.shares["video"] == pytest.approx(1.0)
    assert 0 <= found.absent < 0.5
    assert "clips/s on one core" in found.text()
    assert cv2.getNumThreads() == threads


def test_a_trait_counts_once_a_clip() -> None:
    frames, masks = np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
    samples = [Sample(frames, masks, "video/a", ("twin", "twin")), Sample(frames, masks, "static")]
    assert measure_shares(samples) == {"video": 0.5, "static": 0.5, "twin": 0.5}


def test_a_sheet_has_a_row_a_clip(config: SampleConfig) -> None:
    sheet = draw_sheet([draw_sample(config, step, 0) for step in range(3)])
    assert sheet.shape == (3 * 192, 6 * 192, 3)


def test_a_clip_of_one_frame_fills_its_row(config: SampleConfig) -> None:
    assert draw_sheet([draw_sample(replace(config, frames=1), 0, 0)]).shape == (192, 6 * 192, 3)


def test_a_sheet_of_no_known_kind_is_named(config: SampleConfig, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sheet\.nothing"):
        write_sheet(tmp_path / "sheet.nothing", config, samples=1)


def test_the_command_measures_and_draws(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "sheet.png"
    words = ["data", "smoke", "--data", str(data), "--batches", "2", "--clips", "2"]
    assert main([*words, "-o", str(sheet)]) == 0
    assert "clips/s" in capsys.readouterr().out
    assert read_rgb(sheet).shape == (2 * 192, 6 * 192, 3)


@pytest.mark.parametrize("words", [["no-such"], ["smoke", "--batches", "0"]])
def test_the_command_refuses_what_makes_no_sense(words: list[str], data: Path) -> None:
    assert main(["data", *words, "--data", str(data)]) == 2
