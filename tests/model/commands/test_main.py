"""The command `tamvt-model`."""

import pkgutil
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from onnx import helper

import model
from model.__main__ import COMMANDS, build_app, main
from model.errors import ModelError


def test_no_command_is_a_wrong_call_that_shows_the_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert [name for name in COMMANDS if name not in told.err] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_its_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    told = capsys.readouterr().out
    assert f"tamvt-model {name}" in told.partition("Examples:")[2]
    assert "\x1b" not in told  # no colors where stdout is no terminal


@pytest.mark.parametrize(
    "words",
    [shlex.split(example)[1:] for command in COMMANDS.values() for example in command.examples],
    ids=" ".join,
)
def test_every_example_can_be_called(words: list[str]) -> None:
    build_app(words).parse_args(words, exit_on_error=False, print_error=False)


def test_the_help_imports_no_command() -> None:
    code = "import sys; from model.__main__ import main; main(['--help']); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True
    )
    assert "model.commands" not in done.stdout.split()
    assert {"torch", "onnx", "numpy"}.isdisjoint(done.stdout.split())


def test_a_repository_for_triton_needs_no_torch() -> None:
    code = (
        "import sys; from model.__main__ import main; "
        "main(['export', '--triton', 'out', '--help']); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True
    )
    assert "model.commands.export_triton" in done.stdout.split()
    assert "torch" not in done.stdout.split()


def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == project["version"]


@pytest.mark.parametrize(
    "line",
    [
        "fly",
        "train smoke",
        "train unknown -o out",
        "train smoke -o out --steps many",
        "train smoke -o out --device abacus",
        "evaluate --threads 0",
        "evaluate --dataset imagenet",
        "evaluate --predictions a --weights b",
        "data smoke --batches 0",
        "sweep -o out --memory-sizes 1,many",
        "yardstick --sets twins nothing",
        "bench --size 480",
        "export --triton out --backend abacus",
    ],
)
def test_a_wrong_call_is_told_in_one_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (only,) = told.err.splitlines()
    assert only.startswith("tamvt-model")


@pytest.mark.parametrize(
    ("line", "option", "wanted"),
    [
        ("evaluate --weights a b --raw", "weights", (Path("a"), Path("b"))),
        ("evaluate --videos dog camel", "videos", ("dog", "camel")),
        ("evaluate --no-memory-gate", "memory_gate", False),
        ("evaluate", "memory_gate", None),
        ("bench --objects 1 4 --rounds 1", "objects", (1, 4)),
        ("bench --size 96x160", "size", (96, 160)),
        ("sweep -o out --memory-sizes 3,5", "memory_sizes", (3, 5)),
        ("ablate -o out --rows full,center", "rows", ("full", "center")),
        ("yardstick --sets twins dark", "sets", ("twins", "dark")),
        ("visualize rows -o out --point 3 4", "point", (3, 4)),
        ("train smoke -o out --steps 1 --steps 2", "steps", 2),
        ("train smoke -o out", "resume", None),
        ("train smoke -o out --resume", "resume", ()),
        ("train smoke --resume -o out", "resume", ()),
        ("train smoke --resume a.pt -o out", "resume", (Path("a.pt"),)),
    ],
)
def test_options_are_read_as_they_are_written(line: str, option: str, wanted: object) -> None:
    words = line.split()
    _, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    args = bound.arguments.get("args") or import_module(f"model.commands.{words[0]}").BY_DEFAULT
    assert getattr(args, option) == wanted


def test_shells_complete_commands_and_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    script = tmp_path / "tamvt-model"
    words = ["--install-completion", "--shell", "bash", "--output", str(script)]
    assert main(words) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".b")] == []
    text = script.read_text(encoding="utf-8")
    assert [name for name in COMMANDS if name not in text] == []
    assert "--memory-sizes" in text


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
