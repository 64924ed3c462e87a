"""The commands of the README, run as they stand there, against a real service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from service.media.sample import write_sample
from tests.support.running import ROOT, Run, Running, environment

ADDRESS = "http://127.0.0.1:8000"
STAND_IN = Path(__file__).parent / "support" / "small_curl.py"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def block(language: str, holding: str) -> str:
    """The one block of the README in this language that holds these words."""
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    (found,) = (text for kind, text in blocks if kind == language and holding in text)
    return str(found)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's commands are run: as after `make demo ARGS="--sample coffee"`."""
    folder = tmp_path_factory.mktemp("clone")
    write_sample(folder / "demo" / "sample" / "coffee")
    return folder


@pytest.fixture(params=["curl", "stand-in"])
def programs(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH with this Python as python3, and with curl, or our stand-in where there is none."""
    real = shutil.which("curl") if request.param == "curl" else None
    (tmp_path / "python3").symlink_to(sys.executable)
    command = f'exec "{real}" "$@"' if real else f'exec "{sys.executable}" "{STAND_IN}" "$@"'
    (tmp_path / "curl").write_text(f"#!/bin/sh\n{command}\n")
    (tmp_path / "curl").chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def run(words: list[str], folder: Path, **variables: str) -> Run:
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment({"PYTHONPATH": str(ROOT), **variables}),
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_the_readme_commands_run(running: Running, folder: Path, programs: str) -> None:
    (folder / "mask.png").unlink(missing_ok=True)
    script = block("sh", "curl -s").replace(ADDRESS, running.url)
    done = run(["bash", "-euo", "pipefail", "-c", script], folder, PATH=programs)
    assert '"next_frame":3' in done.stdout
    mask = cv2.imread(str(folder / "mask.png"))
    assert mask is not None
    assert mask.shape == (360, 640, 3)


def test_the_readme_program_runs(running: Running, folder: Path) -> None:
    program = block("python", "Client").replace(ADDRESS, running.url)
    done = run([sys.executable, "-c", program], folder)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(n) for n in range(1, 60)]


def test_the_readme_program_without_a_service_runs(folder: Path) -> None:
    done = run([sys.executable, "-c", block("python", "tamvt.Tracker")], folder)
    assert [line.split()[0] for line in done.stdout.splitlines()] == [str(n) for n in range(1, 60)]
    assert not any(line.endswith("[1]") for line in done.stdout.splitlines())


def test_the_readme_track_command_runs(folder: Path, toy_folder: Path) -> None:
    line = block("sh", "--overlay").replace(".venv/bin/tamvt", f"{sys.executable} -m service")
    run(["bash", "-c", line], folder, TAMVT_WEIGHTS=str(toy_folder), TAMVT_MODEL="toy")
    assert len(list((folder / "out" / "masks").glob("*.png"))) == 60
    assert (folder / "out" / "overlay.mp4").stat().st_size > 0
