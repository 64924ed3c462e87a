"""The command `tamvt-model train` as its users run it: alone, stopped, and spread by torchrun."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from model.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SMALL = ("--workers", "0", "--threads", "1", "--fp32")


def train(folder: Path, data: Path, *more: str) -> int:
    """The command's exit status."""
    return main(["train", "smoke", "-o", str(folder), "--data", str(data), *SMALL, *more])


def command(folder: Path, data: Path, *more: str) -> list[str]:
    """The arguments after `python -m`, for a process of its own."""
    words = ["model", "train", "smoke", "-o", str(folder), "--data", str(data), *SMALL]
    return [*words, *more]


def losses(folder: Path) -> list[float]:
    """The losses that a training logged, step by step."""
    with (folder / "log.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_do_what_one_does_with_twice_the_batch(
    drawn_data: Path, tmp_path: Path
) -> None:
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert train(alone, drawn_data, "--batch", "2", "--steps", "2") == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    both = command(spread, drawn_data, "--batch", "1", "--steps", "2")
    run = subprocess.run(
        [sys.executable, *launcher, *both],
        cwd=ROOT,
        env=QUIET,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert losses(spread) == pytest.approx(losses(alone), rel=1e-3)
    ours, theirs = (torch.load(f / "last.pt", weights_only=True)["raw"] for f in (spread, alone))
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 2e-4


def test_a_training_that_is_told_to_stop_saves_and_can_go_on(
    drawn_data: Path, tmp_path: Path
) -> None:
    words = command(tmp_path, drawn_data, "--steps", "5000", "--workers", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    table, deadline = tmp_path / "log.csv", time.monotonic() + 60
    while time.monotonic() < deadline and not (table.exists() and len(losses(tmp_path)) > 1):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGTERM)  # as torchrun does: those that make clips are meant too
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, errors
    done = len(losses(tmp_path))
    assert f"stopped at step {done} of 5000" in output
    assert train(tmp_path, drawn_data, "--resume", "--steps", str(done + 1)) == 0
    assert len(losses(tmp_path)) == done + 1


def test_what_is_there_is_not_overwritten(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "last.pt").write_bytes(b"of great value")
    assert train(tmp_path, drawn_data, "--steps", "1") == 2
    assert train(tmp_path, drawn_data, "--steps", "1", "--resume") == 2
    told = capsys.readouterr().err.splitlines()
    assert "holds a training (last.pt): --resume goes on with it" in told[0]
    assert "last.pt is no whole checkpoint" in told[-1]
    assert (tmp_path / "last.pt").read_bytes() == b"of great value"


def test_missing_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "out", tmp_path / "nowhere", "--steps", "1") == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.pt"))


def test_resuming_begins_where_there_is_nothing_yet(drawn_data: Path, tmp_path: Path) -> None:
    assert train(tmp_path, drawn_data, "--steps", "1", "--resume") == 0
    assert len(losses(tmp_path)) == 1
