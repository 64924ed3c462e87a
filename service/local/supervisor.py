"""Child processes: started so that they end with us, watched, and stopped within a deadline.

The private Redis, the local Triton and the private service are such children. Linux and macOS.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

PR_SET_PDEATHSIG: Final = 1
POLL_S: Final = 0.02
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def end_with_parent(parent: int) -> Callable[[], None]:
    """Return what a child does before it becomes its program: ask to be ended with its parent.

    The signal follows the thread that forked: start the child on a thread that lives long enough.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
    terminate, leave = int(signal.SIGTERM), os._exit

    def ask() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, terminate)  # decision 13
        if os.getppid() != parent:  # it died before the kernel was asked
            leave(1)

    return ask


def start_child(
    command: Sequence[str], *, log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it prints goes to the file `log`."""
    # A file, not a pipe: nobody needs to read on, and what it said can be looked up.
    with _open_log(log) as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C in the terminal is for us to handle
            preexec_fn=end_with_parent(os.getpid()),
        )


async def start_process(program: str, *words: str, log: Path, lock: int) -> Process:
    """Start a program likewise, to be awaited; it inherits the file descriptor `lock`."""
    with _open_log(log) as output:
        return await asyncio.create_subprocess_exec(
            program,
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(lock,),
            umask=0o077,  # what it keeps are users' pictures
            start_new_session=True,
            preexec_fn=end_with_parent(os.getpid()),
        )


def _open_log(log: Path) -> BinaryIO:
    """Return an empty log file that nobody else may read, as it may tell of users' sessions."""
    output = os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
    os.fchmod(output.fileno(), 0o600)  # it may have been there
    return output


def stop_child(process: subprocess.Popen[bytes], *, deadline_s: float) -> None:
    """Ask a child to end; kill it, and what is left of its session, when the deadline is over."""
    process.terminate()
    try:
        process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        process.kill()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def stop_process(process: Process, *, deadline_s: float) -> None:
    """Ask a process to end, and kill it when the deadline is over."""
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(deadline_s):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def find_free_port(host: str = "127.0.0.1") -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.create_server((host, 0)) as listener:
        return int(listener.getsockname()[1])


def read_last_line(log: Path) -> str:
    """Return the last line of a log that says something."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


class StopSignals:
    """Whether SIGTERM or SIGINT has come. Made by `catch_stop_signals`.

    A handler that raises would miss a signal that comes between its check by the interpreter and
    a system call that blocks. So the handler only notes the signal, and waits are short.
    """

    def __init__(self) -> None:
        self.requested = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Note that a signal came; another one changes nothing."""
        self.requested = True

    def wait_for_exit(self, process: subprocess.Popen[bytes]) -> int | None:
        """Wait until the process has ended, and return its status; None if a signal comes first."""
        while not self.requested:
            status = process.poll()
            if status is not None:
                return status
            time.sleep(POLL_S)
        return None


@contextmanager
def catch_stop_signals() -> Iterator[StopSignals]:
    """Note SIGTERM and SIGINT, instead of ending, until the block is left."""
    stop = StopSignals()
    before = {number: signal.signal(number, stop.note) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
