"""Child processes that end when we end, however we end."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def dies_with(parent: int) -> Callable[[], None]:
    """What a child does before it becomes its program: ask the kernel to end it with its parent.

    The signal follows the thread that forked: start the child on a thread that lives long enough.
    """
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux only
    terminate, leave = int(signal.SIGTERM), os._exit

    def ask() -> None:
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, terminate)
        if os.getppid() != parent:  # it died before the kernel was asked
            leave(1)

    return ask
