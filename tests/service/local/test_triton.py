"""A Triton from the wheel on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import httpx
import psutil
import pytest

from service.errors import Misconfigured
from service.local.triton import LocalTriton, local_triton
from tests.support.running import PATIENCE_S, ROOT, environment, run_tamvt, tamvt


def test_it_serves_the_model_and_tells_its_metrics(triton: LocalTriton) -> None:
    assert "nv_inference_exec_count" in httpx.get(triton.metrics_url, timeout=PATIENCE_S).text


def test_without_the_wheel_one_line_says_how_to_get_it(
    toy_repository: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(Misconfigured, match="pip install --no-deps --target"),
        local_triton(toy_repository, home=tmp_path),
    ):
        pass


def test_without_a_repository_nothing_is_started(tmp_path: Path) -> None:
    run = run_tamvt("triton", str(tmp_path / "none"))
    assert run.returncode == 1
    assert run.stderr == f"tamvt: no model repository at {tmp_path / 'none'}\n"


def test_a_model_that_cannot_be_loaded_is_said_in_one_line(
    toy_repository: Path, tmp_path: Path
) -> None:
    shutil.copytree(toy_repository / "toy_memorize", tmp_path / "toy_memorize")
    for weights in tmp_path.glob("*/*/toy.weights"):
        weights.unlink()
    with pytest.raises(Misconfigured, match="toy"), local_triton(tmp_path):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_cleanly(toy_repository: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        tamvt("triton", str(toy_repository), "--port", "0", "--metrics-port", "0"),
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("serving on 127.0.0.1:")
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) == 3  # the server, and a process for each graph
    process.send_signal(number)
    assert process.wait(timeout=PATIENCE_S) == 0
    _, still_there = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert still_there == []
    process.communicate()
