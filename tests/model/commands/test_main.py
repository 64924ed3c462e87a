"""The command `tamvt-model`."""

import subprocess
import sys
from importlib import import_module

import pytest

from model.__main__ import COMMANDS, main


def test_without_a_verb_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    listing = capsys.readouterr().out
    assert [verb for verb in COMMANDS if verb not in listing] == []


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert f"tamvt-model {verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_arguments_and_runs(verb: str) -> None:
    module = import_module(f"model.commands.{verb}")
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_only_the_verb_that_is_asked_for_is_imported() -> None:
    code = "import model.__main__, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


def test_a_missing_file_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["export", "tamvt-mobile", "--weights", "no/such/weights.pt", "-o", "no/such/folder"]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("tamvt-model: ")
    assert len(error.splitlines()) == 1
    assert "no/such/weights.pt" in error
