"""The command `tamvt-model`."""

import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from onnx import helper

import model
from model.__main__ import COMMANDS, main
from model.errors import ModelError


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
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("tamvt-model export: ")
    assert len(error.splitlines()) == 1
    assert "no/such/weights.pt" in error


def test_an_error_of_the_core_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("memorize", "segment"):
        graph = helper.make_model(helper.make_graph([], "empty", [], []))
        (tmp_path / f"bare_{verb}.onnx").write_bytes(graph.SerializeToString())
    words = ["export", "bare", "--from", str(tmp_path), "--triton", str(tmp_path / "repository")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("tamvt-model export: unreadable model metadata")
    assert len(error.splitlines()) == 1


def test_every_error_of_ours_has_one_root() -> None:
    for module in pkgutil.walk_packages(model.__path__, "model."):
        if not module.name.startswith("model.core") and "triton.backend" not in module.name:
            import_module(module.name)
    own = [each for each in list_subclasses(Exception) if each.__module__.startswith("model.")]
    outside = [each for each in own if not each.__module__.startswith("model.core.")]
    assert {"DataError", "CheckpointError", "BadLoss"} <= {each.__name__ for each in outside}
    assert [each for each in outside if not issubclass(each, ModelError)] == []


def list_subclasses(cls: type[Exception]) -> Iterator[type[Exception]]:
    """All classes below one."""
    for each in cls.__subclasses__():
        yield each
        yield from list_subclasses(each)
