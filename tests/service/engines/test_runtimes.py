"""Which runtime is taken, and what keeps a wrong one from being taken."""

from __future__ import annotations

import json
import logging
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.engines.canary import list_differences, try_in_child
from service.engines.compiled_files import CompiledFiles
from service.engines.graphs import open_graphs
from service.engines.onnx_runtime import ONNX_RUNTIME
from service.engines.runtimes import (
    RuntimeOptions,
    choose_runtime,
    is_worth,
    read_measured_loss,
)


@pytest.mark.parametrize("told", [None, 0.31], ids=["not measured", "a point too much"])
def test_auto_leaves_what_loses_much_or_was_not_measured(
    toy_folder: Path, tmp_path: Path, told: float | None
) -> None:
    graphs = open_graphs(toy_folder, "toy", threads=1)
    for path in toy_folder.iterdir():
        (tmp_path / path.name).symlink_to(path)
    if told is not None:
        write_loss(tmp_path, graphs.spec.weights_sha256, {"openvino/bf16": told})
    chosen = choose_runtime(graphs, tmp_path, RuntimeOptions("auto"), threads=1)
    assert chosen.runtime == ONNX_RUNTIME


def test_openvino_is_worth_its_loss_in_bf16_where_it_is_measured_and_little() -> None:
    assert is_worth("bf16", 0.3)
    assert not is_worth("bf16", 0.31)
    assert not is_worth("bf16", None)
    assert not is_worth("fp32", 0.0)


def write_loss(folder: Path, weights_sha256: str, loss: dict[str, float]) -> None:
    told = {"weights_sha256": weights_sha256, "loss": loss}
    (folder / "toy.runtimes.json").write_text(json.dumps(told))


def test_what_was_measured_of_other_weights_does_not_count(tmp_path: Path) -> None:
    def loss(weights: str, runtime: str) -> float | None:
        return read_measured_loss(tmp_path, "toy", weights_sha256=weights, runtime=runtime)

    assert loss("a" * 64, "openvino/bf16") is None
    write_loss(tmp_path, "a" * 64, {"openvino/bf16": 0.1})
    assert loss("a" * 64, "openvino/bf16") == 0.1
    assert loss("b" * 64, "openvino/bf16") is None
    assert loss("a" * 64, "openvino/fp32") is None
    (tmp_path / "toy.runtimes.json").write_text("{")
    assert loss("a" * 64, "openvino/bf16") is None


def test_a_runtime_that_fails_its_canary_is_named_and_left(
    toy_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    graphs = open_graphs(toy_folder, "toy", threads=1)
    # The child finds nothing there, so it ends with an error.
    with caplog.at_level(logging.WARNING):
        for path in toy_folder.glob("*.onnx"):
            (tmp_path / path.name).symlink_to(path)
        chosen = choose_runtime(graphs, tmp_path, RuntimeOptions("openvino"), threads=1)
    assert chosen.runtime == ONNX_RUNTIME
    (line,) = caplog.messages
    assert "openvino/" in line
    assert "toy.weights does not exist" in line


def test_a_crash_is_the_childs_and_its_signal_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -FPE $$\n")
    python.chmod(0o755)
    reason = try_in_child(
        tmp_path, "toy", threads=1, precision="bf16", files=None, python=str(python)
    )
    assert reason == "its canary ended by SIGFPE"


def test_a_difference_is_told_with_its_number() -> None:
    right: dict[str, NDArray[Any]] = {
        "masks": np.zeros((1, 1, 1, 10, 10), np.uint8),
        "confidence": np.full((1, 1, 1), 0.9, np.float32),
        "key": np.ones((1, 4, 8), np.float16),
    }
    assert list(list_differences(right, right)) == []
    wrong = {name: each.copy() for name, each in right.items()}
    wrong["masks"][..., :2, 0] = 255
    wrong["confidence"][:] = 0.8
    wrong["key"][:] = np.nan
    assert list(list_differences(wrong, right)) == [
        "masks differ in 2.0% of pixels (at most 1%)",
        "confidence differs by 0.100 (at most 0.05)",
        "key differs by nan% of its size (at most 20%)",
    ]


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    files = CompiledFiles(tmp_path / "files", limit_bytes=1000)
    assert files.read("a") is None
    files.write("a", b"graph")
    assert files.read("a") == b"graph"
    assert files.read("b") is None
    (path,) = (tmp_path / "files").iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert files.read("a") is None


def test_the_file_used_least_recently_makes_room(tmp_path: Path) -> None:
    files = CompiledFiles(tmp_path, limit_bytes=300)
    files.write("a", bytes(100))
    files.write("b", bytes(100))
    assert files.read("a") is not None
    files.write("c", bytes(100))
    assert [files.read(key) is not None for key in "abc"] == [True, False, True]
    files.write("d", bytes(301))
    assert files.read("d") is None, "larger than all that is kept"


def test_what_does_not_fit_on_the_disk_leaves_nothing_there(tmp_path: Path) -> None:
    files = CompiledFiles(tmp_path, limit_bytes=1000)
    files.write("a", b"graph")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        files.write("b", bytes(500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert files.read("b") is None
    assert files.read("a") == b"graph"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_others_may_write_is_not_read(tmp_path: Path) -> None:
    files = CompiledFiles(tmp_path, limit_bytes=1000)
    files.write("a", b"graph")
    tmp_path.chmod(0o777)
    assert files.read("a") is None
    files.write("b", b"graph")
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    files = CompiledFiles(tmp_path / "file" / "folder", limit_bytes=1000)
    files.write("a", b"graph")
    assert files.read("a") is None
