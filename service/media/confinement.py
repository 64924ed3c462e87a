"""What a process that decodes strangers' videos may do: compute, and talk to the one it has.

Linux offers two ways, and both are taken: landlock forbids every file, seccomp every system call
that the work does not need. Where one is missing the other still holds, and `tried` tells what
does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

try:
    import landlock
    import pyseccomp
except (ImportError, OSError, RuntimeError):  # another system, or one without libseccomp
    landlock = pyseccomp = None

PR_SET_PDEATHSIG: Final = 1
PR_SET_NO_NEW_PRIVS: Final = 38
# Memory, its own descriptors, locks, time, and its end. What is missing here fails with EPERM.
NEEDED_CALLS: Final = (
    *("mmap", "munmap", "mremap", "mprotect", "brk", "madvise"),
    *("read", "lseek", "write", "recvfrom", "recvmsg", "sendto", "close", "fcntl"),
    *("futex", "sched_yield", "sched_getaffinity", "getrandom", "getpid", "gettid"),
    *("clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "getrusage"),
    *("rt_sigreturn", "rt_sigaction", "rt_sigprocmask", "sigaltstack", "tgkill"),
    *("exit", "exit_group", "restart_syscall"),
)


class Confined(NamedTuple):
    """What a process was refused when it tried."""

    files: bool
    network: bool


def end_with_parent() -> None:
    """Ask the kernel to kill this process when the one that forked it ends (Linux)."""
    if (prctl := getattr(ctypes.CDLL(None), "prctl", None)) is not None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))


def measure_address_space() -> int:
    """Return the bytes of address space that this process has (Linux; elsewhere 0)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def limit(*, memory_bytes: int, cpu_s: int) -> None:
    """Bound what this process may ever have: address space and processor time."""
    # A failed allocation is an error in the decoder; the second signal cannot be caught.
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def confine() -> None:
    """Give up files, network and processes for good, as far as the kernel offers it."""
    if landlock is None or pyseccomp is None:
        return
    with suppress(OSError):
        landlock.Ruleset().apply()
    with suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        calls = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
        calls.add_rule(pyseccomp.ALLOW, "prlimit64", pyseccomp.Arg(0, pyseccomp.EQ, 0))
        for name in NEEDED_CALLS:
            with suppress(OSError):  # a call that this processor does not have
                calls.add_rule(pyseccomp.ALLOW, name)
        calls.load()


def tried() -> Confined:
    """Try to open a file and a connection, and return which of them was refused."""
    files = network = False
    try:
        os.close(os.open("/", os.O_RDONLY))
    except PermissionError:
        files = True
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()
    except PermissionError:
        network = True
    return Confined(files, network)
