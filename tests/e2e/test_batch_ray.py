"""`tamvt batch --ray` with a real Ray on this machine, whose actors are killed."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from tests.support import scene
from tests.support.running import PATIENCE_S, ROOT, environment, run_tamvt, tamvt

FRAMES = (60, 3, 3)
pytestmark = pytest.mark.timeout(600)  # Ray starts a dozen processes, slowly on a busy machine
RAY = ("--ray", "local", "--actor-cpus", "1", "--actors")


@pytest.fixture(scope="module")
def settings(toy_folder: Path) -> dict[str, str]:
    return {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A long video and two short ones, beside the manifest."""
    source = tmp_path_factory.mktemp("videos")
    (source / "mask.png").write_bytes(scene.mask())
    for video, frames in enumerate(FRAMES):
        (source / f"v{video}").mkdir()
        for number in range(frames):
            (source / f"v{video}" / f"{number}.jpg").write_bytes(scene.jpeg(number))
    path = source / "videos.csv"
    path.write_text("video,mask\n" + "".join(f"v{k},mask.png\n" for k in range(len(FRAMES))))
    return path


@contextmanager
def begun(
    manifest: Path, out: Path, settings: dict[str, str], *, actors: int
) -> Iterator[subprocess.Popen[str]]:
    """Run the batch on Ray; whatever it has started is gone at the end of the block."""
    run = subprocess.Popen(
        tamvt("batch", str(manifest), "-o", str(out), *RAY, str(actors)),
        cwd=ROOT,
        env=environment(settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield run
    finally:
        if run.poll() is None:
            for process in psutil.Process(run.pid).children(recursive=True):
                process.kill()
            run.kill()
            run.communicate()


def wait_for(found: Callable[[], bool], run: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 4 * PATIENCE_S
    while not found():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)


def holder(lock: Path, run: subprocess.Popen[str]) -> psutil.Process:
    """The actor that has a video in hand."""
    (found,) = (
        process
        for process in psutil.Process(run.pid).children(recursive=True)
        if "VideoActor" in " ".join(process.cmdline())
        and str(lock) in {file.path for file in process.open_files()}
    )
    return found


def results(out: Path) -> dict[str, bytes]:
    """The masks and states of every video that is done."""
    kept = [*out.glob("*/masks/*.png"), *out.glob("*/states.csv")]
    return {str(path.relative_to(out)): path.read_bytes() for path in kept}


def test_a_video_whose_actor_is_killed_is_tracked_again(
    manifest: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    plain, out = tmp_path / "plain", tmp_path / "ray"
    alone = run_tamvt("batch", str(manifest), "-o", str(plain), settings=settings)
    assert alone.returncode == 0, alone.stderr
    working = out / ".tamvt" / "000000-v0"
    with begun(manifest, out, settings, actors=2) as run:
        wait_for(lambda: any(working.glob("masks/*.png")), run)
        started = psutil.Process(run.pid).children(recursive=True)
        actor = holder(working.with_name("000000-v0.lock"), run)
        services = actor.children(recursive=True)
        actor.kill()
        assert not (out / "000000-v0").exists()
        said, _ = run.communicate(timeout=4 * PATIENCE_S)
    assert run.returncode == 0, said
    assert "3 of 3 videos are tracked" in said
    assert len(results(plain)) == sum(FRAMES) + len(FRAMES)
    assert results(out) == results(plain)
    assert len(list(out.glob("*/receipt.json"))) == len(FRAMES)
    assert [path.name for path in (out / ".tamvt").iterdir()] == []
    assert services
    assert not [each for each in (*started, *services) if each.is_running()]


def test_ray_is_reached_from_this_machine_alone_and_ctrl_c_ends_it(
    manifest: Path, tmp_path: Path, settings: dict[str, str]
) -> None:
    working = tmp_path / "out" / ".tamvt" / "000000-v0"
    with begun(manifest, tmp_path / "out", settings, actors=1) as run:
        wait_for(lambda: any(working.glob("masks/*.png")), run)
        started = psutil.Process(run.pid).children(recursive=True)
        open_to = [
            ip_address(each.laddr.ip.removeprefix("::ffff:"))
            for process in started
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ]
        assert len(open_to) > 5
        assert all(address.is_loopback for address in open_to)
        (raylet,) = (each for each in started if each.name() == "raylet")
        assert raylet.environ()["RAY_USAGE_STATS_ENABLED"] == "0"
        assert raylet.environ()["RAY_AUTH_MODE"] == "token"
        run.send_signal(signal.SIGINT)
        said, _ = run.communicate(timeout=2 * PATIENCE_S)
    assert run.returncode == 130, said
    assert said.splitlines()[-1] == "tamvt batch: stopped"
    psutil.wait_procs(started, timeout=PATIENCE_S)
    assert not [each for each in started if each.is_running()]
