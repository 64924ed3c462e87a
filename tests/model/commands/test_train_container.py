"""What the trainer's container is told to run exists, and ends in a model that can be served."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from model.__main__ import build_app

ROOT = Path(__file__).resolve().parents[3]
FILES = ("docker-compose.yml", "deploy/kubernetes/train-job.yaml")
COMMAND = re.compile(r"^\s+(?:tamvt-model|torchrun .* -m model) (.*?)(?: &)?$", re.MULTILINE)


def commands(file: str) -> list[list[str]]:
    """The arguments of every `tamvt-model` in a file, its variables replaced by the defaults."""
    text = (ROOT / file).read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$(RECIPE|BUILD)", "tamvt-mobile", text)
    return [shlex.split(found) for found in COMMAND.findall(text)]


def parsed(words: list[str]) -> Any:
    """The options as the command reads them; raises where they are wrong."""
    _, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    return bound.arguments["args"]


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
    assert "image: tamvt-trainer" in (ROOT / "deploy/kubernetes/train-job.yaml").read_text()
