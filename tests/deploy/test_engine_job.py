"""The Job that builds TensorRT's plans: its scripts, run with builders that take no time."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from scripts.deploy.check import CHART, ROOT

KEY, MODEL = "NVIDIA-L4-11.4-82f33268142d", "82f33268142d"


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


TRTEXEC = """#!/bin/sh
echo "&&&& RUNNING TensorRT.trtexec [TensorRT v{version}] # trtexec"
for word; do case $word in --saveEngine=*) echo "$*" >"${{word#--saveEngine=}}" ;; esac; done
"""


def build(job: Path, *, version: int, wanted: str) -> subprocess.CompletedProcess[str]:
    """Run build_engine.sh with a trtexec of this version, whose plan is what it was asked for."""
    programs = {
        "trtexec": TRTEXEC.format(version=version),
        "nvidia-smi": "#!/bin/sh\necho 'L4, 8.9'\n",
    }
    for name, text in programs.items():
        (job / name).write_text(text)
        (job / name).chmod(0o755)
    (job / "repository" / "toy_segment" / "1").mkdir(exist_ok=True)
    (job / "repository" / "toy_segment" / "1" / "model.onnx").touch()
    script = ROOT / "deploy" / "triton" / "build_engine.sh"
    return subprocess.run(
        ["bash", script, job / "repository", job / "cache"],
        env={"PATH": f"{job}:/usr/bin:/bin", "TENSORRT": wanted},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("version", "wanted"), [(101500, "10.15"), (110401, "11.4")])
def test_half_precision_is_asked_of_a_tensorrt_that_still_has_it(
    job: Path, version: int, wanted: str
) -> None:
    done = build(job, version=version, wanted=wanted)
    assert done.returncode == 0, done.stderr
    plan = (job / "repository" / "toy_segment" / "1" / "model.plan").read_text().split()
    assert "--minShapes=x" in plan
    assert ("--fp16" in plan) == (version < 110000)


def test_another_tensorrt_than_that_of_the_key_is_refused(job: Path) -> None:
    done = build(job, version=110300, wanted="10.15")
    assert done.returncode == 1
    assert "this is TensorRT 11.3, and not 10.15" in done.stderr
    assert not (job / "cache").exists()
