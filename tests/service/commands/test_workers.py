"""`tamvt serve --workers`: several processes on one port, of which any may die."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest

from service.commands.serve import run
from service.commands.top_figures import read_scrape
from service.errors import Misconfigured
from tamvt_client import Client
from tests.support import scene
from tests.support.redis_servers import wait_until
from tests.support.running import PATIENCE_S, Api, Running, run_tamvt, running_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, toy_folder: Path) -> Iterator[Running]:
    """Two workers, which end together when they are told to."""
    folder = tmp_path_factory.mktemp("workers")
    with running_service(state=folder, weights=toy_folder, workers=2) as running:
        yield running
        found = psutil.Process(running.process.pid).children(recursive=True)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == 0
        assert not [each for each in found if each.is_running()]
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/healthz")


def workers(service: Running) -> list[psutil.Process]:
    """Return the processes that serve, the oldest first."""
    found = []
    for each in psutil.Process(service.process.pid).children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if "service.commands.worker" in each.cmdline():
                found.append(each)
    return found


def kill_connected(service: Running) -> None:
    """Kill the workers that have a connection, and wait until others stand in for them."""
    gone = [
        each
        for each in workers(service)
        if any(found.status == "ESTABLISHED" for found in each.net_connections("tcp"))
    ]
    assert gone
    for each in gone:
        each.kill()

    def stand_in() -> bool:
        found = workers(service)
        return len(found) == 2 and not set(found) & set(gone)

    wait_until(stand_in, what="other workers", deadline_s=PATIENCE_S)


def masks_of(url: str, *, kill: Running | None = None) -> list[bytes]:
    """Return the label maps of a streamed video, whose workers are killed on the way."""

    def frames() -> Iterator[bytes]:
        for number in range(1, 13):
            if kill is not None and number == 7:
                kill_connected(kill)
            yield scene.jpeg(number)

    with Client(url) as client:
        session = client.start(scene.jpeg(0), scene.mask())
        return [
            masks.label_map(session.frame_size).tobytes()
            for masks in client.stream(session.session_id, frames(), max_wait_ms=50)
        ]


def test_a_stream_goes_on_when_its_worker_is_killed(service: Running, api: Api) -> None:
    undisturbed = masks_of(str(api.http.base_url))
    assert len(undisturbed) == 12
    assert masks_of(service.url, kill=service) == undisturbed


def test_every_worker_knows_every_session(service: Running) -> None:
    with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
        session = Api(http).start()
    for number in range(1, 9):
        # A connection of its own each time: whichever worker is free takes it.
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
            answer = Api(http).append(session, [scene.jpeg(number)], first=number)
            assert answer.status_code == 200, answer.text


def test_what_they_cannot_start_for_is_said_once(tmp_path: Path) -> None:
    settings = {"TAMVT_WEIGHTS": str(tmp_path), "TAMVT_STATE": str(tmp_path / "state")}
    done = run_tamvt("serve", "--port", "0", "--workers", "3", settings=settings)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("tamvt: no model")


@pytest.mark.parametrize("count", [0, 65])
def test_their_number_has_limits(count: int) -> None:
    with pytest.raises(Misconfigured, match=f"1 to 64, not {count}"):
        run(workers=count)


def test_each_worker_tells_the_metrics_of_all(service: Running) -> None:
    def told() -> tuple[set[str], float]:
        look = read_scrape([httpx.get(f"{service.url}/metrics", timeout=PATIENCE_S).text], at_s=0)
        return set(look.values("tamvt_tasks", "worker")), look.total("tamvt_sessions_total")

    wait_until(
        lambda: told()[0] == {str(each.pid) for each in workers(service)}, what="both workers"
    )
    before = told()[1]
    for _ in range(4):  # each on a connection of its own, so that either worker may get it
        with httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http:
            Api(http).start()
    wait_until(lambda: told()[1] == before + 4, what="all sessions")
