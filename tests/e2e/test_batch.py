"""`tamvt batch` as a user runs it: processes, a real service, files."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.support import scene
from tests.support.running import PATIENCE_S, ROOT, environment, run_tamvt, tamvt

FRAMES, VIDEOS = 9, 4


@pytest.fixture(scope="module")
def settings(toy_folder: Path) -> dict[str, str]:
    return {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four videos beside the manifest; the second line's is not there."""
    lines = ["video,mask"]
    (tmp_path / "mask.png").write_bytes(scene.mask())
    for video in range(VIDEOS):
        folder = tmp_path / f"v{video}"
        folder.mkdir()
        for number in range(FRAMES):
            (folder / f"{number}.jpg").write_bytes(scene.jpeg(number))
        lines.append(f"{'missing' if video == 1 else f'v{video}'},mask.png")
    path = tmp_path / "videos.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def begin(words: list[str], settings: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        tamvt(*words),
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def finished(out: Path) -> list[str]:
    return sorted(path.parent.name for path in out.glob("*/receipt.json"))


def test_a_batch_goes_on_past_what_fails_and_after_it_is_mended(
    manifest: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    out = tmp_path / "out"
    first = run_tamvt("batch", str(manifest), "-o", str(out), settings=settings)
    assert first.returncode == 1
    assert "line 3: 000001-missing: there is no video or folder" in first.stderr
    assert "3 of 4 videos are tracked" in first.stdout
    assert finished(out) == ["000000-v0", "000002-v2", "000003-v3"]
    for name in finished(out):
        assert len(list((out / name / "masks").glob("*.png"))) == FRAMES
    receipt = json.loads((out / "000002-v2" / "receipt.json").read_text())
    assert receipt["entry"]["video"] == "v2"
    assert receipt["damage"] == ""
    (tmp_path / "v1").rename(tmp_path / "missing")
    before = {name: (out / name / "receipt.json").stat().st_mtime_ns for name in finished(out)}
    second = run_tamvt("batch", str(manifest), "-o", str(out), settings=settings)
    assert second.returncode == 0, second.stderr
    assert len(finished(out)) == VIDEOS
    assert {name: (out / name / "receipt.json").stat().st_mtime_ns for name in before} == before


def test_shards_track_each_video_once_and_a_killed_run_is_taken_up(
    manifest: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "v1").rename(tmp_path / "missing")
    words = ["batch", str(manifest), "-o", str(out)]
    shard = {**settings, "JOB_COMPLETION_INDEX": "1"}
    killed = begin([*words, "--shard", "index/2"], shard)
    until = time.monotonic() + PATIENCE_S
    while not finished(out) and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert set(finished(out)) <= {"000001-missing", "000003-v3"}
    runs = [begin(words, settings) for _ in range(2)]
    assert [run.wait(2 * PATIENCE_S) for run in runs] == [0, 0]
    assert len(finished(out)) == VIDEOS
    assert not list((out / ".tamvt").glob("0*"))
