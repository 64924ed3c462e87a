"""Locust's scenarios, a second each, against real services of the toy model."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from loadtests.__main__ import main
from loadtests.bad_network import NetworkFaults, bad_network_to
from loadtests.guards import Costly
from loadtests.load_video import LoadVideo
from loadtests.locust_runs import LOCUST, ScenarioRun, run_scenario
from loadtests.scenarios import SCENARIOS, LoadTarget, send_costly, two_gateways
from tests.support.running import PATIENCE_S, ROOT, Running

EVERY_KIND = ("RestUser", "StreamUser", "ChurnUser", "ModestUser", "GreedyUser")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.fixture(autouse=True)
def toy_service(monkeypatch: pytest.MonkeyPatch, toy_folder: Path) -> None:
    """Let services that a scenario starts serve the toy model."""
    settings = {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy", "TAMVT_ENGINE_THREADS": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def run(
    name: str, video: LoadVideo, out: Path, target: LoadTarget, *more: str, users: int = 0
) -> ScenarioRun:
    """Run a scenario for a moment, with so many users of every kind if it is said."""
    scenario = BY_NAME[name]
    if users:
        scenario = replace(scenario, users=EVERY_KIND, count=users)
    found = run_scenario(scenario, [video], seconds=1, out=out, target=target, more=more)
    assert found.failures == [], (out / f"{name}.log").read_text()
    return found


def cheap(http: httpx.Client) -> Iterator[Costly]:
    """Yield a neighbor's request that costs next to nothing."""

    def look(client: httpx.Client) -> httpx.Response:
        time.sleep(0.2)
        return client.get("/healthz")

    yield Costly("a look", look)


def test_users_of_every_kind_get_their_masks(
    running: Running, video: LoadVideo, tmp_path: Path
) -> None:
    more = ("--session-frames", "8", "--fps", "60")
    target = LoadTarget(running.url, [running.url], keys=["one", "other"])
    target.beside = lambda ended: send_costly(running.url, target, ended, list_requests=cheap)
    found = run("mixed", video, tmp_path, target, *more, users=9)
    seen = {str(row["what"]): row for row in found.rows}
    assert {"models", "start", "append 8", "append 2", "masks", "delete"} <= set(seen)
    assert {"masks of the modest tenant", "masks of the greedy tenant"} <= set(seen)
    assert "times 200" in found.told[0]
    assert all(float(str(seen["masks"][column])) > 0 for column in ("count", "p50 ms", "per s"))
    assert found.watch.rows


def test_a_stream_goes_on_through_a_bad_network(
    running: Running, video: LoadVideo, tmp_path: Path
) -> None:
    faults = NetworkFaults(delay_ms=5, jitter_ms=5, stall_every_s=0.4, stall_s=0.1, drop_every_s=2)
    with bad_network_to(int(running.url.rpartition(":")[2]), faults) as network:
        near = f"http://127.0.0.1:{network.port}"
        target = LoadTarget(near, [running.url], hosts=[near, near])
        found = run("network", video, tmp_path, target, "--session-frames", "75")
        assert network.dropped >= 1
    seen = {str(row["what"]) for row in found.rows}
    assert "masks" in seen


def test_gateways_are_restarted_without_a_failure(video: LoadVideo, tmp_path: Path) -> None:
    with two_gateways(pause_s=0.2) as target:
        found = run("restart", video, tmp_path, target, "--session-frames", "20")
    assert "restarts, each" in target.told[0]
    assert "masks" in {str(row["what"]) for row in found.rows}


def test_a_scenario_without_its_locust_is_reported(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    running: Running,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("loadtests.locust_runs.LOCUST", tmp_path / "nothing")
    words = ["--only", "rest", "restart", "capacity", "--url", running.url]
    assert main([*words, "-o", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert "rest: not run: no Locust at" in told
    for name in ("restart", "capacity"):
        assert f"{name}: not run: it needs services of its own" in told


def test_no_program_loads_another_machine(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--allow-remote"):
        main(["--url", "http://192.0.2.1", "-o", str(tmp_path)])
    words = ["-m", "locust", "-f", "loadtests/locustfile.py", "--headless", "--run-time", "1s"]
    done = subprocess.run(
        [str(LOCUST), *words, "--host", "http://192.0.2.1", "--videos", str(tmp_path), "RestUser"],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'clients' / 'python'}"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode != 0
    assert "--allow-remote" in done.stderr
