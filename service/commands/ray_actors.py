"""Actors of Ray that track the lines of a manifest, each with a service and an engine of its own.

An actor is sent a line, not a video: nodes read and write one file system, by the same paths. When
an actor's process ends, Ray starts it again and calls it again with the line that it had in hand;
claims, receipts and atomic output make that once (decision 91).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from service.commands.batch_videos import Batch, Claimed
from service.commands.manifest import Line
from service.errors import BadOption, StartupError
from service.local.private_service import PUBLIC, private_service
from service.settings.reading import VARIABLES
from tamvt_client import Unreachable

ADDRESS: Final = re.compile(r"local|auto|(?P<host>[\w.-]+|\[[0-9a-fA-F:.]+\]):(?P<port>\d{1,5})")
THREADS: Final = "TAMVT_ENGINE_THREADS"
ACTOR_RESTARTS: Final = 8  # of an actor, before it is given up
LINE_RETRIES: Final = 2  # of a line whose actor ends; one that ends every actor is told then
CONNECT_S: Final = 10.0
READY_S: Final = 300.0  # for the first actor: others may use Ray's processors
POLL_S: Final = 5.0
STOP_S: Final = 60.0
LINES_BYTES: Final = 80 * 2**20  # Ray's least; it takes a third of the memory otherwise
# Ray reports its use to its makers, lets everybody who reaches its ports run programs, and opens
# those to the network on Linux, unless it is told otherwise.
QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0"}
ALONE: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_raylet_start_wait_time_s": "120",  # a busy machine exceeds its 30
    "RAY_agent_register_timeout_ms": "120000",  # likewise
}


class VideoActor:
    """A process that tracks one line after the other. Its service starts with the first call."""

    def __init__(self, batch: Batch, state: Path, settings: Mapping[str, str]) -> None:
        self._batch, self._state, self._settings = batch, state, settings
        self._open = ExitStack()

    def start(self) -> tuple[str, str]:
        """Return the version of this node's package, and why no service started (empty: it did)."""
        try:
            self._start_service()
        except (StartupError, OSError) as error:
            return version("tamvt-serve"), str(error)
        return version("tamvt-serve"), ""

    def track_line(self, line: Line) -> str | None:
        """Return what `Batch.track_line` does, or None where another run works on the video.

        End the process where it has no service, as if it had been killed.
        """
        try:
            self._start_service()
            return self._batch.track_line(line)
        except Claimed:
            return None
        except (Unreachable, StartupError):
            os._exit(1)

    def close(self) -> None:
        """End the service and the process; Ray gives its processors to others."""
        self._open.close()
        importlib.import_module("ray.actor").exit_actor()

    def _start_service(self) -> None:
        if not self._batch.url:
            made = tempfile.TemporaryDirectory(prefix="actor-", dir=self._state)
            state = Path(self._open.enter_context(made))
            url = self._open.enter_context(private_service(state, settings=self._settings))
            self._batch = replace(self._batch, url=url)


@dataclass(slots=True)
class ActorPool:
    """The actors of a run, and the calls that are under way, by Ray's references."""

    ray: Any
    actors: list[Any]
    starting: dict[Any, Any] = field(default_factory=dict)
    held: dict[Any, tuple[Any, Line]] = field(default_factory=dict)
    closing: list[Any] = field(default_factory=list)
    lost: str = ""  # why the last actor was given up

    def track(self, lines: Sequence[Line]) -> Iterator[tuple[Line, str | None]]:
        """Yield each line when it is done, as `Batch.track` does.

        Raises:
            StartupError: no actor was ready in time, or none is left.
        """
        waiting = deque(line for line in lines if line.entry is not None)
        claimed: set[int] = set()
        yield from ((line, line.problem) for line in lines if line.entry is None)
        self.starting = {actor.start.remote(): actor for actor in self.actors}
        until = time.monotonic() + READY_S
        while waiting or self.held:
            for reference in self._wait_for_responses():
                if reference in self.starting:
                    self._hand_out(self._read_start(reference), waiting)
                    continue
                actor, line, problem = self._read_line(reference)
                if problem is None and line.index not in claimed:
                    claimed.add(line.index)
                    waiting.append(line)
                else:
                    yield line, problem
                self._hand_out(actor, waiting)
            if self.held:
                until = time.monotonic() + READY_S
            elif waiting and (not self.starting or time.monotonic() > until):
                reason = self.lost or f"none was ready within {READY_S:g} s"
                raise StartupError(f"no actor of Ray is left: {reason}")

    def close(self) -> None:
        """Let the actors end their services; whatever is left after STOP_S is killed."""
        if self.closing:
            self.ray.wait(self.closing, num_returns=len(self.closing), timeout=STOP_S)

    def _wait_for_responses(self) -> list[Any]:
        calls = [*self.starting, *self.held]
        if not calls:
            return []
        done: list[Any] = self.ray.wait(calls, num_returns=1, timeout=POLL_S)[0]
        return done

    def _hand_out(self, actor: Any, waiting: deque[Line]) -> None:
        """Give an actor the next line; end it where there is none."""
        if actor is None:
            return
        if waiting:
            line = waiting.popleft()
            self.held[actor.track_line.remote(line)] = actor, line
        else:
            # Its process ends with it, as is meant: that is no reason to call it again.
            self.closing.append(actor.close.options(max_task_retries=0).remote())

    def _read_start(self, reference: Any) -> Any:
        """Return the actor that has started, or None where it is given up."""
        actor = self.starting.pop(reference)
        try:
            there, problem = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.lost = str(error).strip().splitlines()[-1][:300]
            return None
        if (here := version("tamvt-serve")) != there:
            problem = f"a node has tamvt-serve {there}, and this is {here}"
        self.lost = problem or self.lost
        return None if problem else actor

    def _read_line(self, reference: Any) -> tuple[Any, Line, str | None]:
        """Return an actor that is ready (or None), its line, and what went wrong."""
        actor, line = self.held.pop(reference)
        try:
            return actor, line, self.ray.get(reference)
        except self.ray.exceptions.RayActorError:
            # Ray may be starting it again.
            self.starting[actor.start.remote()] = actor
            return None, line, "its actor ended each time; docs/track.md tells where to look"
        except self.ray.exceptions.RayError as error:
            return actor, line, str(error).strip().splitlines()[-1][:300]


@contextmanager
def running_actors(
    address: str, batch: Batch, state: Path, *, cpus: int, most: int | None
) -> Iterator[ActorPool]:
    """Yield actors, as many as Ray's processors carry or `most`, until the block is left.

    Raises:
        BadOption: no node has so many processors.
        StartupError: there is no Ray at the address, or it does not start.
    """
    full = replace(batch, source=batch.source.resolve(), out=batch.out.resolve())
    settings = copy_settings(threads=cpus)
    with running_ray(address) as ray:
        count = count_actors(ray.nodes(), cpus=cpus)
        remote = ray.remote(
            num_cpus=cpus, max_restarts=ACTOR_RESTARTS, max_task_retries=LINE_RETRIES
        )(VideoActor)
        actors = [
            remote.remote(full, state.resolve(), settings) for _ in range(min(count, most or count))
        ]
        pool = ActorPool(ray, actors)
        try:
            yield pool
            pool.close()
        finally:
            for actor in actors:
                with suppress(ray.exceptions.RayError):
                    ray.kill(actor)


def copy_settings(*, threads: int) -> dict[str, str]:
    """Return what this environment says of settings, for the private services of actors."""
    named = {
        variable: value
        for variable, value in os.environ.items()
        if VARIABLES.get(variable.upper(), "state") not in {*PUBLIC, "state"}
    }
    if "engine_threads" not in {VARIABLES[variable.upper()] for variable in named}:
        named[THREADS] = str(threads)
    return named


def count_actors(nodes: Sequence[Mapping[str, Any]], *, cpus: int) -> int:
    """Return how many actors of so many processors Ray's nodes carry; raise BadOption for none."""
    there = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
    if not (count := sum(each // cpus for each in there)):
        raise BadOption(f"--actor-cpus {cpus}: no node of Ray has more than {max([0, *there])}")
    return count


def check_ray(address: str) -> None:
    """Raise BadOption where Ray is not installed, or the address is none."""
    if not ADDRESS.fullmatch(address):
        raise BadOption(f"--ray {address}: it is local, auto or HOST:PORT")
    if importlib.util.find_spec("ray") is None:
        raise BadOption("--ray: pip install 'tamvt-serve[ray]'")


@contextmanager
def running_ray(address: str) -> Iterator[Any]:
    """Yield Ray: one of this machine that nobody else reaches, or the one at an address.

    Raises:
        StartupError: there is none, or it does not start.
    """
    os.environ.update(QUIET)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "critical"}
    with ExitStack() as stack:
        if address == "local":
            os.environ.update(ALONE, RAY_AUTH_TOKEN=secrets.token_hex(32))
            # Short, because its sockets are there. Ray opens its own folder to every user.
            made = tempfile.TemporaryDirectory("", "tamvt-ray-", "/tmp", ignore_cleanup_errors=True)
            options["_temp_dir"] = f"{stack.enter_context(made)}/r"
            options |= {"object_store_memory": LINES_BYTES, "include_dashboard": False}
        else:
            _ask_whether_it_is_there(address)
        ray = importlib.import_module("ray")
        stack.callback(ray.shutdown)
        try:
            ray.init(address=address, **options)
        except Exception as error:  # a start that takes too long is just that
            reason = (str(error).strip().splitlines() or ["it did not start"])[0]
            raise StartupError(f"--ray {address}: {reason[:300]}") from error
        yield ray


def _ask_whether_it_is_there(address: str) -> None:
    """Raise StartupError where nobody listens; bound how long Ray tries to connect."""
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "2")  # each takes 40 s where no Ray answers
    found = ADDRESS.fullmatch(address)
    if found is None or found["host"] is None:
        return
    try:
        place = found["host"].strip("[]"), int(found["port"])
        socket.create_connection(place, timeout=CONNECT_S).close()
    except OSError as error:
        raise StartupError(f"--ray {address}: {error.strerror or error}") from error
