"""`tamvt` itself: its help, its version, wrong calls, the completion of shells."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service.__main__ import COMMANDS
from tests.support.running import ROOT, run_tamvt


def test_the_help_imports_no_command() -> None:
    code = "import sys; from service.__main__ import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "service.commands" not in done.stdout.split()
    assert "cv2" not in done.stdout.split()


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert run_tamvt("--version").stdout.strip() == project["version"]


@pytest.mark.parametrize(
    "words",
    [
        ("fly",),
        ("bench",),
        ("bench", "fly"),
        ("track", "video.mp4", "-o", "out"),
        ("track", "video.mp4", "--mask", "a.png", "-o", "out", "--reference-frame", "first"),
        ("serve", "--colour"),
        ("serve", "now"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(words: tuple[str, ...]) -> None:
    done = run_tamvt(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("tamvt")


def test_no_command_is_a_wrong_call_that_shows_the_help() -> None:
    done = run_tamvt()
    assert done.returncode == 2
    assert all(name in done.stderr for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_examples(name: str) -> None:
    done = run_tamvt(name, "--help")
    assert done.returncode == 0
    assert f"tamvt {name}" in done.stdout.partition("Examples:")[2]
    assert "\x1b" not in done.stdout  # no colors where stdout is no terminal


def test_shells_complete_commands_and_options(tmp_path: Path) -> None:
    script = tmp_path / "tamvt"
    words = ("--install-completion", "--shell", "bash", "--output", str(script))
    assert run_tamvt(*words, settings={"HOME": str(tmp_path)}).returncode == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".b")] == []
    text = script.read_text()
    assert all(name in text for name in COMMANDS)
    assert "--reference-frame" in text
