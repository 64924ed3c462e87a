"""The same graphs behind our gateway and behind Ray Serve: speed, and what a kill costs.

Both get the same clips over HTTP in turns. Then the process that holds the sessions is killed with
SIGKILL. Ray starts its replica again by itself; our gateway is started again at once, as a
supervisor would. Each session asks for its next clip until it has an answer, and is lost if it is
not known any more: then its frames have to be sent again from the first one.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import httpx

from loadtests.figures import ROOT, Row, latency_of
from loadtests.load_video import LoadVideo
from loadtests.videos import sample_video
from scripts.deploy.stack import StackGateway, running_redis
from service.errors import StartupError, TamvtError
from service.local.supervisor import find_free_port, read_last_line, start_child, stop_child
from service.local.triton import KEEP_BLOCKS
from service.settings import read_settings

CLIP, CLIPS, SESSIONS = 2, 16, 4  # frames, clips of a round, sessions at the kill
START_S, STOP_S, ANSWER_S = 120.0, 30.0, 60.0


class SideService(Protocol):
    """A service that keeps sessions."""

    name: str

    def start(self, session: str, video: LoadVideo) -> None:
        """Begin a session with the first frame and its mask."""
        ...

    def append(self, session: str, images: Sequence[bytes]) -> bool:
        """Track a clip; return False if the session is not known; HTTPError if nobody answers."""
        ...

    def kill(self) -> None:
        """Kill the process that holds the sessions, and see to it that it comes back."""
        ...


@dataclass(slots=True)
class OwnGateway:
    """Our gateway on a Redis that outlives it."""

    gateway: StackGateway
    http: httpx.Client
    name: str = "gateway, embedded engine"
    _ids: dict[str, str] = field(default_factory=dict)
    _next: dict[str, int] = field(default_factory=dict)

    def start(self, session: str, video: LoadVideo) -> None:
        files = {"frame": ("0.jpg", video.frames[0]), "mask": ("0.png", video.mask)}
        answer = self.http.post("/v1/sessions", files=files).raise_for_status()
        self._ids[session], self._next[session] = answer.json()["session_id"], 1

    def append(self, session: str, images: Sequence[bytes]) -> bool:
        answer = self.http.post(
            f"/v1/sessions/{self._ids[session]}/clips",
            params={"first_frame": self._next[session]},
            files=[("frames", ("0.jpg", image)) for image in images],
        )
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        self._next[session] = answer.raise_for_status().json()["next_frame"]
        return True

    def kill(self) -> None:
        assert self.gateway.process is not None
        self.gateway.process.kill()
        self.gateway.stop()
        self.gateway.start()


@dataclass(slots=True)
class RayService:
    """A Ray Serve deployment whose replica keeps each session's tracker."""

    http: httpx.Client
    name: str = "Ray Serve, a tracker a session"

    def start(self, session: str, video: LoadVideo) -> None:
        files = {"frame": ("0.jpg", video.frames[0]), "mask": ("0.png", video.mask)}
        self.http.post("/", params={"session": session}, files=files).raise_for_status()

    def append(self, session: str, images: Sequence[bytes]) -> bool:
        files = [("frames", ("0.jpg", image)) for image in images]
        answer = self.http.post("/", params={"session": session}, files=files)
        if answer.status_code == httpx.codes.NOT_FOUND:
            return False
        answer.raise_for_status()
        return True

    def kill(self) -> None:
        replica = self.http.get("/", params={"pid": 1}).raise_for_status().json()
        os.kill(replica["pid"], signal.SIGKILL)


@contextmanager
def own_gateway(threads: int) -> Iterator[OwnGateway]:
    """Run our gateway until the block is left."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tamvt-side-")))
        own = {
            **KEEP_BLOCKS,
            "TAMVT_REDIS_URL": stack.enter_context(running_redis(folder)),
            "TAMVT_ENGINE_THREADS": str(threads),
            "TAMVT_RUNTIME": "onnxruntime",
            "PYTHONUNBUFFERED": "1",
        }
        gateway = StackGateway(find_free_port(), folder / "gateway.log", {**os.environ, **own})
        stack.callback(gateway.stop)
        gateway.start()
        http = httpx.Client(base_url=gateway.url, timeout=ANSWER_S, trust_env=False)
        yield OwnGateway(gateway, stack.enter_context(http))


@contextmanager
def ray_service(python: Path, threads: int) -> Iterator[RayService]:
    """Run Ray Serve until the block is left; raise StartupError where it does not start."""
    if not python.exists():
        raise StartupError(f"Ray Serve: not run: no environment at {python} (--make)")
    settings, port = read_settings(), find_free_port()
    words = [str(port), str(threads), settings.served_models[0], str(settings.weights)]
    with tempfile.TemporaryDirectory(prefix="tamvt-ray-") as folder:
        log = Path(folder) / "ray.log"
        paths = os.pathsep.join((str(ROOT), str(ROOT / "clients" / "python")))
        own = {**KEEP_BLOCKS, "PYTHONPATH": paths, "RAY_USAGE_STATS_ENABLED": "0"}
        command = [str(python), "-m", "loadtests.peers.ray_graph", *words]
        process = start_child(command, log=log, environment={**os.environ, **own})
        try:
            wait_until_listening(process, log)
            url = f"http://127.0.0.1:{port}"
            with httpx.Client(base_url=url, timeout=ANSWER_S, trust_env=False) as http:
                yield RayService(http)
        finally:
            stop_child(process, deadline_s=STOP_S)


def wait_until_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a log says that it listens; raise StartupError with its last line if not."""
    until = time.monotonic() + START_S
    while "listening on" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > until:
            raise StartupError(f"Ray Serve: not run: {read_last_line(log)}")
        time.sleep(0.1)


def time_clips(service: SideService, video: LoadVideo, *, session: str) -> list[float]:
    """Return milliseconds of each clip of a session; the first ones, which fill it, left out."""
    service.start(session, video)
    images, found = video.endless(), list[float]()
    for _ in range(2 * CLIPS):
        clip = [next(images) for _ in range(CLIP)]
        begin_s = time.perf_counter()
        service.append(session, clip)
        found.append(1000 * (time.perf_counter() - begin_s))
    return found[CLIPS:]


def kill_and_count(service: SideService, video: LoadVideo) -> tuple[int, int, float]:
    """Return the sessions that a kill lost, their frames, and seconds until one was answered."""
    names = [f"killed-{number}" for number in range(SESSIONS)]
    for name in names:
        service.start(name, video)
        for _ in range(CLIPS):
            service.append(name, video.frames[1 : 1 + CLIP])
    begin_s = time.monotonic()
    service.kill()
    lost, first_s = 0, float("nan")
    for name in names:
        known: bool | None = None
        while known is None and time.monotonic() < begin_s + ANSWER_S:
            with suppress(httpx.HTTPError):
                known = service.append(name, video.frames[1 : 1 + CLIP])
            if known is None:
                time.sleep(0.05)
        if known is not None and first_s != first_s:
            first_s = time.monotonic() - begin_s
        lost += not known
    return lost, lost * CLIPS * CLIP, first_s


def measure_services(
    ray_python: Path, size: tuple[int, int], *, threads: int, rounds: int
) -> tuple[list[Row], list[str]]:
    """Return a row for each service, and sentences about what could not be run."""
    video, missing, rows = sample_video(size=size), list[str](), list[Row]()
    with ExitStack() as stack:
        services: list[SideService] = []
        both: list[AbstractContextManager[SideService]]
        both = [own_gateway(threads), ray_service(ray_python, threads)]
        for opened in both:
            try:
                services.append(stack.enter_context(opened))
            except TamvtError as error:
                missing.append(str(error))
        taken: dict[str, list[float]] = {service.name: [] for service in services}
        for number in range(rounds):
            for service in services:
                taken[service.name] += time_clips(service, video, session=f"round-{number}")
        for service in services:
            lost, frames, first_s = kill_and_count(service, video)
            latency = latency_of(taken[service.name])
            rows.append(
                {
                    "service": service.name,
                    "frames/s": 1000 * CLIP / statistics.fmean(taken[service.name]),
                    "p50 ms": latency.p50_ms,
                    "p95 ms": latency.p95_ms,
                    "sessions lost by a kill": f"{lost} of {SESSIONS}",
                    "frames to track again": frames,
                    "answered again after s": round(first_s, 2),
                }
            )
    return rows, missing
