"""The command `tamvt-model train` as its users run it: alone, stopped, and spread by torchrun."""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from model.__main__ import main
from model.training.checkpoints import locked

ROOT = Path(__file__).resolve().parents[3]
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


def test_two_processes_do_the_steps_of_three(drawn_data: Path, tmp_path: Path) -> None:
    """One of them makes two passes; together they do what one does with the whole batch."""
    alone, spread = tmp_path / "alone", tmp_path / "spread"
    assert train(alone, drawn_data, "--batch", "3", "--steps", "2") == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    both = command(spread, drawn_data, "--batch", "1", "--world-size", "3", "--steps", "2")
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


def elastic_node(folder: Path, data: Path, *, port: int, hosts: bool) -> "subprocess.Popen[str]":
    """One of at most two nodes that train together, by a `torchrun` with a process of its own."""
    timeouts = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3"
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1:2"),
            *("--nproc-per-node", "1", "--max-restarts", "3", "--monitor-interval", "0.1"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}"),
            *("--rdzv-id", "elastic", "--local-addr", "127.0.0.1"),
            *("--rdzv-conf", f"is_host={int(hosts)},{timeouts}", "-m"),
            *command(folder, data, "--batch", "1", "--world-size", "2", "--steps", "8"),
            "--resume",
        ],
        cwd=ROOT,
        env=QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_training_that_loses_a_node_does_the_same_steps_without_it(
    drawn_data: Path, tmp_path: Path
) -> None:
    whole, elastic = tmp_path / "whole", tmp_path / "elastic"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    stays, dies = (
        elastic_node(elastic, drawn_data, port=port, hosts=hosts) for hosts in (True, False)
    )
    wait_for_steps(elastic, 1)
    lost = [psutil.Process(dies.pid), *psutil.Process(dies.pid).children(recursive=True)]
    for process in lost:
        process.kill()
    dies.communicate(timeout=30)
    output, _ = stays.communicate(timeout=200)
    assert stays.returncode == 0, output
    assert len(lost) > 1  # both nodes were training
    # What the lost one had done is kept, though no checkpoint was due.
    assert re.search(r"goes on at step [1-9]\d* with 1 process$", output, re.MULTILINE), output
    assert train(whole, drawn_data, "--batch", "2", "--steps", "8") == 0
    assert losses(elastic) == pytest.approx(losses(whole), rel=1e-2)


def wait_for_steps(folder: Path, count: int) -> None:
    """Return when a training has logged so many steps, or after two minutes and a half."""
    table, deadline = folder / "log.csv", time.monotonic() + 150
    while time.monotonic() < deadline and not (table.exists() and len(losses(folder)) >= count):
        time.sleep(0.05)


def running_training(folder: Path, data: Path) -> "subprocess.Popen[str]":
    """A long training in a process of its own, with one worker, past its first step."""
    words = command(folder, data, "--steps", "5000", "--workers", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env=QUIET,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_steps(folder, 2)
    return process


def test_a_training_that_is_told_to_stop_saves_and_can_go_on(
    drawn_data: Path, tmp_path: Path
) -> None:
    process = running_training(tmp_path, drawn_data)
    os.killpg(process.pid, signal.SIGTERM)  # as torchrun does: those that make clips are meant too
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM, errors
    done = len(losses(tmp_path))
    assert f"stopped at step {done} of 5000" in output
    assert train(tmp_path, drawn_data, "--resume", "--steps", str(done + 1)) == 0
    assert len(losses(tmp_path)) == done + 1


def test_a_training_that_is_killed_leaves_no_worker(drawn_data: Path, tmp_path: Path) -> None:
    process = running_training(tmp_path, drawn_data)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate(timeout=30)
    assert workers
    assert psutil.wait_procs(workers, timeout=30)[1] == []


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


def test_a_folder_that_another_process_trains_into_is_left_alone(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with locked(tmp_path):
        assert train(tmp_path, drawn_data, "--steps", "1") == 2
    assert f"process {os.getpid()} is writing into {tmp_path}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--frames", "1"), "at least one more frame"),
        (("--steps", "0"), "steps must be at least 1, not 0"),
        (("--batch", "0"), "batch must be at least 1, not 0"),
        (("--world-size", "0"), "world_size must be at least 1, not 0"),
        (("--weights", "nowhere.pt"), "there is no checkpoint nowhere.pt"),
        (("--device", "cuda:7"), "there is no GPU here for --device cuda:7"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    words: tuple[str, ...],
    told: str,
    drawn_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train(tmp_path, drawn_data, *words) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_missing_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(tmp_path / "out", tmp_path / "nowhere", "--steps", "1") == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.pt"))


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_broken_mask_is_named_whoever_reads_it(
    workers: str, drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_data, data)
    for path in data.glob("*/*/masks/*.png"):
        path.write_bytes(path.read_bytes()[:60])
    assert train(tmp_path / "out", data, "--workers", workers) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert told.splitlines()[-1].startswith("tamvt-model train: cannot read the mask")
    assert not list((tmp_path / "out").glob("*.pt"))


def test_an_empty_data_set_is_named(
    drawn_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(drawn_data, data)
    (data / "video/train.txt").write_text("\n")
    assert train(tmp_path / "out", data) == 2
    assert "train.txt names none" in capsys.readouterr().err


def test_resuming_begins_where_there_is_nothing_yet(drawn_data: Path, tmp_path: Path) -> None:
    assert train(tmp_path, drawn_data, "--steps", "1", "--resume") == 0
    assert len(losses(tmp_path)) == 1
