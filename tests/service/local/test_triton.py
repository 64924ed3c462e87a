"""A Triton from the wheel on this machine."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def started(repository: Path) -> Iterator[subprocess.Popen[str]]:
    """`tamvt triton` that has just been started; the whole family is ended with the block."""
    process = subprocess.Popen(
        tamvt("triton", str(repository), "--port", "0", "--metrics-port", "0"),
        cwd=ROOT,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    family: list[psutil.Process] = []
    try:
        yield process
    finally:
        if process.poll() is None:
            family = psutil.Process(process.pid).children(recursive=True)
            process.kill()
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_stops_cleanly(toy_repository: Path, number: signal.Signals) -> None:
    with started(toy_repository) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving on 127.0.0.1:")
        family = psutil.Process(process.pid).children(recursive=True)
        assert len(family) == 5  # the server, and a process for each of two models' graphs
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE_S) == 0
        _, still_there = psutil.wait_procs(family, timeout=PATIENCE_S)
        assert still_there == []


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 1.0])
def test_a_signal_while_it_starts_ends_it_cleanly(toy_repository: Path, delay_s: float) -> None:
    with started(toy_repository) as process:
        wait_until_it_handles_signals(process)
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0


def wait_until_it_handles_signals(process: subprocess.Popen[str]) -> None:
    """Wait until SIGTERM no longer ends the process by itself."""
    caught = Path(f"/proc/{process.pid}/status")
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        mask = re.search(r"^SigCgt:\s*(\w+)$", caught.read_text(), re.MULTILINE)
        if mask is not None and int(mask[1], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)
    raise AssertionError("it never handled SIGTERM")
