"""The programs of examples/, run as a reader runs them."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.core.image_headers import ImageLimits
from model.core.j_and_f import jaccard
from model.core.palette import read_label_map
from tests.support import scene
from tests.support.running import ROOT, Running, environment

EXAMPLES = ROOT / "examples"
FRAMES = 33  # the first one, and whole appends
PATIENCE_S = 280


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
    return subprocess.run(
        [sys.executable, *words],
        cwd=cwd,
        env=environment({"PYTHONPATH": path, "MPLBACKEND": "agg"}),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_the_camera_follows_what_was_clicked(running: Running, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(scene.video(range(FRAMES)))
    words = ["--source", "walk.mp4", "--click", "24", "24", "--out", "out.mp4"]
    done = run(str(EXAMPLES / "camera.py"), "--url", running.url, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("frame ")]
    assert len(told) == FRAMES - 1
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    pictures = []
    while (read := video.read())[0]:
        pictures.append(read[1])
    assert len(pictures) == FRAMES - 1
    # What is followed is tinted green where it is, on the picture that it was found in.
    square = scene.labels(FRAMES - 1) == 1
    green = pictures[-1][..., 1].astype(int)
    assert green[square].mean() > green[~square].mean() + 5
    assert np.abs(green[square].mean() - (scene.SQUARE[1] / 2 + 128)) < 25


def test_a_camera_and_an_address_are_live_and_a_file_is_not() -> None:
    is_live = runpy.run_path(str(EXAMPLES / "camera.py"))["is_live"]
    sources = ["0", "rtsp://10.0.0.7/stream", "walk.mp4"]
    assert [is_live(source) for source in sources] == [True, True, False]


def test_every_video_of_a_folder_is_tracked_and_a_broken_one_is_named(
    running: Running, tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("a", "b"):
        (videos / f"{name}.mp4").write_bytes(scene.video(range(FRAMES)))
        (videos / f"{name}.png").write_bytes(scene.mask())
    (videos / "broken.mp4").write_bytes(b"no video")
    words = [str(EXAMPLES / "many_videos.py"), "videos", "-o", "masks", "--url", running.url]
    done = run(*words, cwd=tmp_path)
    assert done.returncode == 1
    assert "broken.mp4: " in done.stdout
    for name in ("a", "b"):
        assert f"{name}.mp4: {FRAMES} frames" in done.stdout.splitlines()
        masks = sorted((tmp_path / "masks" / name).glob("*.png"))
        assert [mask.stem for mask in masks] == [f"{n:05d}" for n in range(FRAMES)]
        labels = read_label_map(masks[-1].read_bytes(), ImageLimits())
        assert jaccard(labels == 1, scene.labels(FRAMES - 1) == 1) > 0.8


@pytest.mark.parametrize("name", ["tracking.ipynb"])
def test_a_notebook_runs_from_top_to_bottom(name: str, tmp_path: Path) -> None:
    cells = json.loads((EXAMPLES / name).read_text())["cells"]
    code = "\n\n".join("".join(each["source"]) for each in cells if each["cell_type"] == "code")
    (tmp_path / "cells.py").write_text(code)
    done = run("-W", "ignore", "cells.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()[-1]
    assert float(told.split()[2].rstrip(";")) > 0.8, told
