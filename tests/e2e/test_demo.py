"""`tamvt demo` as a user runs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import cv2
import pytest

from service.media.video import open_source
from tests.support import scene
from tests.support.running import Run, Running, run_tamvt


def demo(settings: Mapping[str, str], *arguments: str) -> Run:
    return run_tamvt("demo", *arguments, settings=settings)


@pytest.fixture(scope="module")
def settings(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {
        "TAMVT_WEIGHTS": str(toy_folder),
        "TAMVT_MODEL": "toy",
        "TAMVT_DATA": str(tmp_path_factory.mktemp("no-data")),
    }


@pytest.fixture(scope="module")
def shown(settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The demo without any data: the built-in sample."""
    out = tmp_path_factory.mktemp("demo")
    return out, demo(settings, "-o", str(out))


def test_the_demo_prints_speed_latency_and_scores(shown: tuple[Path, Run]) -> None:
    _, done = shown
    assert done.returncode == 0, done.stderr
    assert re.search(r"^video +coffee, 640x360, 1 object$", done.stdout, re.MULTILINE)
    assert re.search(r"^frames +59 in [\d.]+ s, [\d.]+ frames/s$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^latency +\d+ ms median, \d+ ms p95, for 2 frames$", done.stdout, re.MULTILINE
    )


def test_the_scores_compare_with_the_truth(shown: tuple[Path, Run]) -> None:
    found = re.search(r"^against truth +J ([\d.]+), F ([\d.]+)$", shown[1].stdout, re.MULTILINE)
    assert found is not None
    # The toy model knows only one color, so it finds a part of the cup.
    assert all(10 < float(score) < 90 for score in found.groups())


def test_the_demo_writes_a_video_a_sheet_and_masks(shown: tuple[Path, Run]) -> None:
    out, done = shown
    sheet = cv2.imread(str(out / "coffee" / "contact-sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > sheet.shape[0] > 800
    assert open_source(out / "coffee" / "overlay.mp4").count == 60
    assert len(list((out / "coffee" / "masks").glob("*.png"))) == 60
    for name in ("overlay.mp4", "contact-sheet.png", "masks"):
        assert str(out / "coffee" / name) in done.stdout


def test_a_video_of_the_data_is_tracked_if_there_is_one(
    settings: dict[str, str], running: Running, tmp_path: Path
) -> None:
    video = tmp_path / "data" / "video" / "square"
    for part in ("frames", "masks"):
        (video / part).mkdir(parents=True)
    for number in range(6):
        (video / "frames" / f"{number:05d}.jpg").write_bytes(scene.jpeg(number))
        labels = scene.labels(number)
        (video / "masks" / f"{number:05d}.png").write_bytes(scene.encode(labels * 255, ".png"))
    data = {**settings, "TAMVT_DATA": str(tmp_path / "data")}
    where = ["-o", str(tmp_path / "out"), "--url", running.url]
    done = demo(data, "--sample", "square", *where)
    assert done.returncode == 0, done.stderr
    found = re.search(r"J ([\d.]+), F ([\d.]+)", done.stdout)
    assert found is not None, done.stdout
    assert min(float(score) for score in found.groups()) > 75


def test_the_users_own_video_needs_no_truth(
    settings: dict[str, str], running: Running, tmp_path: Path
) -> None:
    (tmp_path / "street.mp4").write_bytes(scene.video(range(7)))
    (tmp_path / "first.png").write_bytes(scene.mask())
    own = ["--video", str(tmp_path / "street.mp4"), "--mask", str(tmp_path / "first.png")]
    done = demo(settings, *own, "-o", str(tmp_path / "out"), "--url", running.url)
    assert done.returncode == 0, done.stderr
    assert "against truth" not in done.stdout
    assert open_source(tmp_path / "out" / "street" / "overlay.mp4").count == 7


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--video", "street.mp4"], "needs both --video and --mask"),
        (["--sample", "unicorn"], "there is no video 'unicorn'"),
        (["--video", "gone.mp4", "--mask", "gone.png"], "there is no video or folder 'gone.mp4'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    arguments: list[str], said: str, settings: dict[str, str], running: Running, tmp_path: Path
) -> None:
    failed = demo(settings, *arguments, "-o", str(tmp_path / "out"), "--url", running.url)
    assert failed.returncode == 1
    assert failed.stderr.startswith("tamvt demo: ")
    assert said in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_true_masks_are_never_replaced(
    settings: dict[str, str], running: Running, tmp_path: Path
) -> None:
    for part in ("frames", "masks"):
        (tmp_path / "video" / "square" / part).mkdir(parents=True)
    (tmp_path / "video" / "square" / "frames" / "00000.jpg").write_bytes(scene.jpeg(0))
    (tmp_path / "video" / "square" / "masks" / "00000.png").write_bytes(scene.mask())
    data = {**settings, "TAMVT_DATA": str(tmp_path)}
    where = ["-o", str(tmp_path / "video"), "--url", running.url]
    failed = demo(data, "--sample", "square", *where)
    assert failed.returncode == 1
    assert "holds the true masks" in failed.stderr
