"""A wait that a signal must end is ended by it at any instant."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from service.local.supervisor import read_last_line, start_child, stop_child
from tests.support.running import PATIENCE_S, ROOT

WAITING = """
import os, subprocess, sys
from service.local.supervisor import catch_stop_signals, start_child, stop_child
from pathlib import Path

with catch_stop_signals() as stop:
    child = start_child(["sleep", "600"], log=Path(os.devnull), environment=dict(os.environ))
    print(child.pid, flush=True)
    status = stop.wait_for_exit(child)
    stop_child(child, deadline_s=5)
sys.exit(7 if status is None else 1)
"""
TRIES = 30  # of which 6 missed the signal before


def test_a_signal_right_after_the_line_is_never_missed() -> None:
    """The signal comes while the process goes from its line into its wait."""
    for attempt in range(TRIES):
        with subprocess.Popen(
            [sys.executable, "-c", WAITING], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                child = int(process.stdout.readline())
                time.sleep(attempt * 0.0005)
                process.send_signal(signal.SIGTERM if attempt % 2 else signal.SIGINT)
                assert process.wait(timeout=PATIENCE_S) == 7
                assert not Path(f"/proc/{child}").exists()
            finally:
                process.kill()


def test_a_child_that_ends_by_itself_tells_its_status(tmp_path: Path) -> None:
    code = (
        "from service.local.supervisor import *\nimport os, sys\n"
        "with catch_stop_signals() as stop:\n"
        "    child = start_child(['sh', '-c', 'exit 3'], log=Path(os.devnull), environment={})\n"
        "    sys.exit(stop.wait_for_exit(child))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=PATIENCE_S, check=False)
    assert run.returncode == 3


def test_a_child_that_ignores_the_signal_is_killed_with_its_children(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = "trap '' TERM; sleep 600 & echo $!; wait; wait"
    child = start_child(["sh", "-c", script], log=log, environment={"PATH": "/usr/bin:/bin"})
    until = time.monotonic() + PATIENCE_S
    while not log.read_text().strip() and time.monotonic() < until:
        time.sleep(0.01)
    stop_child(child, deadline_s=0.2)
    assert child.returncode == -signal.SIGKILL
    grandchild = int(read_last_line(log))
    while is_running(grandchild) and time.monotonic() < until:
        time.sleep(0.01)
    assert not is_running(grandchild)


def is_running(number: int) -> bool:
    """Return whether a process lives: a zombie that nobody waited for does not."""
    return psutil.pid_exists(number) and psutil.Process(number).status() != psutil.STATUS_ZOMBIE


@pytest.mark.parametrize(
    ("text", "last"), [("a\nb\n\n", "b"), ("", "it said nothing"), ("  x ", "x")]
)
def test_the_last_line_that_says_something_is_read(tmp_path: Path, text: str, last: str) -> None:
    (tmp_path / "log").write_text(text)
    assert read_last_line(tmp_path / "log") == last
