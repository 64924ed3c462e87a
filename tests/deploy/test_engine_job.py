"""The Job that builds TensorRT's plans: its script, run with a builder that takes no time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.deploy.check import CHART

KEY, MODEL = "NVIDIA-L4-10.15-2c4bdefe0272", "2c4bdefe0272"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A folder with a repository of one graph, and a builder of plans that takes no time."""
    graph = tmp_path / "repository" / "toy_segment"
    graph.mkdir(parents=True)
    (graph / "trtexec.args").write_text(f"--minShapes=x\n--key={MODEL}0123\n")
    builder = tmp_path / "build_engine.sh"
    builder.write_text(f'#!/bin/sh\necho built >>"{tmp_path}/log"\ntouch "$1/toy_segment/plan"\n')
    builder.chmod(0o755)
    return tmp_path


def run(job: Path) -> subprocess.CompletedProcess[str]:
    script = (CHART / "files" / "engines.sh").read_text()
    script = script.replace("/opt/tamvt/", f"{job}/").replace("/engines/", f"{job}/engines/")
    environment = {
        "KEY": KEY,
        "MODEL_SHA256": MODEL,
        "REPOSITORY": str(job / "repository"),
        "PATH": "/usr/bin:/bin",
    }
    return subprocess.run(
        ["bash", "-ec", script], env=environment, capture_output=True, text=True, check=False
    )


def test_plans_are_built_once_and_then_found(job: Path) -> None:
    assert run(job).returncode == 0
    assert (job / "engines" / KEY / "ready").exists()
    assert (job / "engines" / KEY / "repository" / "toy_segment" / "plan").exists()
    assert run(job).returncode == 0
    assert (job / "log").read_text() == "built\n"


def test_a_repository_of_another_model_is_refused(job: Path) -> None:
    (job / "repository" / "toy_segment" / "trtexec.args").write_text("--key=ffff\n")
    done = run(job)
    assert done.returncode == 1
    assert f"other weights than {MODEL}" in done.stderr
    assert not (job / "engines").exists()


def test_a_build_that_was_cut_off_is_begun_anew(job: Path) -> None:
    half = job / "engines" / KEY / "repository"
    half.mkdir(parents=True)
    (half / "half").touch()
    assert run(job).returncode == 0
    assert not (half / "half").exists()
    assert (job / "engines" / KEY / "ready").exists()
