"""What the trainer's container is told to run exists, and ends in a model that can be served."""

import os
import re
import shlex
import signal
import subprocess
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from model.__main__ import build_app

ROOT = Path(__file__).resolve().parents[3]
FILES = ("docker-compose.yml", "deploy/kubernetes/chart/files/train.sh")
COMMAND = re.compile(r"^\s*(?:tamvt-model|torchrun .* -m model) (.*?)(?: &)?$", re.MULTILINE)


def commands(file: str) -> list[list[str]]:
    """The arguments of every `tamvt-model` in a file, its variables replaced by the defaults."""
    text = (ROOT / file).read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$(RECIPE|BUILD)", "tamvt-mobile", text)
    text = re.sub(r"\$(WORKERS|PROCESSES)", "4", text)
    text = re.sub(r"\$?\$backend", "onnxruntime", text)
    return [shlex.split(found) for found in COMMAND.findall(text)]


def parsed(words: list[str]) -> Any:
    """The options as the command reads them; raises where they are wrong."""
    _, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments["args"]


def test_a_job_with_fewer_nodes_does_the_steps_of_all() -> None:
    train, *_ = commands("deploy/kubernetes/chart/files/train.sh")
    assert parsed(train).world_size == 4  # what PROCESSES is replaced by here


@pytest.mark.parametrize("file", FILES)
def test_it_trains_exports_and_makes_a_repository(file: str) -> None:
    train, export, repository = commands(file)
    assert parsed(train).resume is not None  # a restart goes on
    assert parsed(export).weights == parsed(train).output / "last.pt"
    assert parsed(repository).folder == parsed(export).output


def test_both_build_the_same_target() -> None:
    targets = re.findall(r"^FROM \S+ AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert "trainer" in targets
    assert "target: trainer" in (ROOT / "docker-compose.yml").read_text()
    values = (ROOT / "deploy/kubernetes/chart/values.yaml").read_text()
    assert "trainer: {repository: tamvt-trainer," in values


TRAINER = """#!/bin/bash
echo "$*" >> told
trap 'sleep 0.2; echo saved >> told; exit 143' TERM
while [[ "$*" == *train* ]]; do sleep 0.05; done
"""


@pytest.mark.parametrize("file", FILES)
def test_a_trainer_that_is_stopped_saves_before_its_container_ends(
    file: str, tmp_path: Path
) -> None:
    for name in ("tamvt-model", "torchrun"):
        (tmp_path / name).write_text(TRAINER)
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {"PATH": path, "RECIPE": "smoke", "BUILD": "small", "WORKERS": "4"}
    shell = subprocess.Popen(["bash", "-ec", script(file)], cwd=tmp_path, env=environment)
    told = tmp_path / "told"
    deadline = time.monotonic() + 20
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)  # the trainer has set its trap
    shell.send_signal(signal.SIGTERM)
    assert shell.wait(timeout=20) == 128 + signal.SIGTERM
    first, *rest = told.read_text().splitlines()
    assert "train" in first
    assert rest == ["saved"]  # and nothing is exported


@pytest.mark.parametrize("file", FILES)
def test_a_repository_is_left_for_each_backend_in_its_own_folder(file: str, tmp_path: Path) -> None:
    for name in ("tamvt-model", "torchrun"):
        (tmp_path / name).write_text('#!/bin/bash\necho "$*" >>told\n')
        (tmp_path / name).chmod(0o755)
    names = {"RECIPE": "smoke", "BUILD": "small", "WORKERS": "4", "JOB_COMPLETION_INDEX": "0"}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **names}
    subprocess.run(["bash", "-ec", script(file)], cwd=tmp_path, env=environment, check=True)
    left = re.findall(r"--triton (\S+) --backend (\w+)", (tmp_path / "told").read_text())
    assert {"python", "onnxruntime"} <= {backend for _, backend in left}
    assert [folder for folder, _ in left] == [f"/models/{backend}" for _, backend in left]


def script(file: str) -> str:
    """What the container's shell is given."""
    if file.endswith(".sh"):
        return (ROOT / file).read_text()
    lines = (ROOT / file).read_text().splitlines()
    trainer = lines.index("  trainer:")
    begin = next(k for k in range(trainer, len(lines)) if lines[k].strip() == "- |")
    depth = len(lines[begin]) - len(lines[begin].lstrip())
    end = next(
        k for k in range(begin + 1, len(lines)) if len(lines[k]) - len(lines[k].lstrip()) <= depth
    )
    text = textwrap.dedent("\n".join(lines[begin + 1 : end]))
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text).replace("$$", "$")
