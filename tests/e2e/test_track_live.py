"""`tamvt track --live`: a stream of this machine is recorded, and tracked while it comes."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from service.__main__ import main
from service.media.video import open_source
from tests.support import scene
from tests.support.live_stream import FRAMES, LiveServer, live_server
from tests.support.redis_servers import wait_until
from tests.support.running import (
    PATIENCE_S,
    ROOT,
    Run,
    Running,
    environment,
    run_tamvt,
    tamvt,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as serving:
        yield serving


def track(address: str, out: Path, running: Running, *more: str) -> Run:
    return run_tamvt("track", address, "-o", str(out), "--url", running.url, *more)


def test_a_camera_of_the_network_is_tracked_from_a_click(
    server: LiveServer, running: Running, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--live", "60", "--allow-private", "--click", "24,24", "--overlay"]
    done = track(f"{server.address}/camera", out, running, *words)
    assert done.returncode == 0, done.stderr
    names = [f"{number:05d}" for number in range(FRAMES)]
    assert sorted(path.stem for path in (out / "frames").iterdir()) == names
    assert sorted(path.stem for path in (out / "masks").iterdir()) == names
    for number in (1, FRAMES - 1):
        labels = read_label_map((out / f"masks/{number:05d}.png").read_bytes(), ImageLimits())
        assert (labels == scene.labels(number)).mean() > 0.97
    assert len(list(open_source(out / "overlay.mp4").frames())) == FRAMES
    again = track(f"{server.address}/camera", out, running, *words)
    assert again.returncode == 1
    assert "holds an earlier run" in again.stderr


def test_ctrl_c_ends_the_recording_and_what_came_is_tracked(
    server: LiveServer, running: Running, tmp_path: Path
) -> None:
    (tmp_path / "mask.png").write_bytes(scene.mask())
    out = tmp_path / "out"
    words = ["--live", "600", "--allow-private", "--mask", str(tmp_path / "mask.png")]
    process = subprocess.Popen(
        tamvt("track", f"{server.address}/endless", "-o", str(out), "--url", running.url, *words),
        cwd=ROOT,
        env=environment({}),
        stderr=subprocess.PIPE,
        text=True,
    )
    mask = out / "masks" / "00001.png"
    try:
        wait_until(lambda: process.poll() is not None or mask.exists(), what="the first masks")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0, said
    recorded = sorted(path.stem for path in (out / "frames").glob("*.jpg"))
    assert sorted(path.stem for path in (out / "masks").iterdir()) == recorded
    # What was recorded is a video like any other: here one of which nothing is left to do.
    again = track(str(out / "frames"), out, running, "--mask", str(tmp_path / "mask.png"))
    assert (again.returncode, "tracked already" in again.stderr) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--live", "1", "--click", "1,1"), "--allow-private"),
        (("--click", "1,1"), "--live SECONDS"),
        (("--live", "1", "--allow-private", "--click", "here"), "write X,Y"),
        (("--live", "0", "--allow-private", "--click", "1,1"), "takes up to 86400 seconds"),
        (("--live", "1", "--both-ways", "--click", "1,1"), "goes forward only"),
    ],
)
def test_what_cannot_be_tracked_live_is_said_in_a_line(
    server: LiveServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    assert main(["track", f"{server.address}/film.mp4", "-o", str(tmp_path / "out"), *words]) == 1
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
