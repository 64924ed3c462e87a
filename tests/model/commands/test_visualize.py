"""Figures show what they claim: the table as learned, attention as the model computes it."""

import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.__main__ import main
from model.commands.visualize import draw_time_svg, find_center, measure_attention
from model.data.video import open_video
from model.evaluation.report import RED, paint_errors
from model.evaluation.scoring import read_truth, write_labels
from model.evaluation.tracker import OfflineTracker
from model.export.graph_export import describe
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from model.networks.base import TrackingNetwork
from model.networks.position import RelativeTimeEncoding


def test_the_heat_map_holds_every_factor() -> None:
    encoding = RelativeTimeEncoding(3)
    encoding.table.data.copy_(torch.tensor([1.0, 0.5, 1.25, 0.75, 1.0, 2.0]))
    root = ET.fromstring(draw_time_svg(encoding))
    titles = [node.text for node in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["1.0000", "0.5000", "1.2500", "0.7500", "1.0000", "2.0000"]


def test_attention_is_a_share_of_the_whole_memory(
    mobile_model: TrackingNetwork, drawn_data: Path
) -> None:
    video = open_video(drawn_data / "video", "walk")
    truth = read_truth(video)["00000"]
    served = prepare_serving(mobile_model)
    runtime = TorchRuntime(served, describe(mobile_model, "0" * 64))
    tracker = OfflineTracker(runtime, video.frames[0].read_bytes(), truth)
    list(tracker.track(path.read_bytes() for path in video.frames[1:3]))
    frame = np.zeros((*tracker.size, 3), np.uint8)
    heats = measure_attention(served, tracker, frame, (0.5, 0.5))
    assert list(heats) == [32, 16]
    for stride, heat in heats.items():
        assert heat.shape == (2, tracker.size[0] // stride, tracker.size[1] // stride)
        assert heat.sum() == pytest.approx(1.0, rel=1e-4)


def test_wrong_pixels_are_red() -> None:
    image = np.zeros((1, 3, 3), np.uint8)
    truth, labels = np.array([[1, 1, 0]], np.uint8), np.array([[1, 0, 0]], np.uint8)
    shown = paint_errors(image, labels, truth)[0]
    assert shown[1].tolist() == [int(0.7 * part) for part in RED]
    assert shown[2].tolist() == [0, 0, 0]


def test_the_point_lies_well_inside_the_object() -> None:
    labels = np.zeros((20, 30), np.uint8)
    labels[5:16, 8:19] = 1
    assert find_center(labels) == (13, 10)


def test_the_command_draws_all_three(
    mobile_model: TrackingNetwork, drawn_data: Path, tmp_path: Path
) -> None:
    video = open_video(drawn_data / "video", "kept")
    write_labels(tmp_path / "kept", read_truth(video))
    torch.save(mobile_model.state_dict(), tmp_path / "weights.pt")
    words = ["--weights", str(tmp_path / "weights.pt"), "--root", str(drawn_data / "video")]
    words += ["--predictions", str(tmp_path), "--columns", "3", "--frame", "3"]
    assert main(["visualize", "-o", str(tmp_path / "out"), *words]) == 0
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == ["attention-kept.png", "rows.png", "time.svg"]
    rows = cv2.imread(str(tmp_path / "out" / "rows.png"))
    assert rows is not None
    assert rows.shape == (184, 3 * 240, 3)


def test_a_figure_that_does_not_exist_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["visualize", "mood", "-o", str(tmp_path)]) == 2
    assert "no figure mood" in capsys.readouterr().err
