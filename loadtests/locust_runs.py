"""Run Locust in its own environment, and read what its users saw."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from loadtests.figures import ROOT, Row
from loadtests.load_video import LoadVideo
from loadtests.scenarios import LoadTarget, Scenario
from loadtests.watching import LoadWatch, watching
from scripts.deploy.stack import TOOLS
from service.errors import Misconfigured

LOCUST = TOOLS / "loadtests" / "bin" / "python"
STOP_S = 20  # for users to finish what they have begun
SLACK_S = 120.0


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """What one scenario showed: a row for each kind of call, failures, and what disturbed it."""

    scenario: Scenario
    rows: Sequence[Row]
    failures: Sequence[str]
    told: Sequence[str]
    watch: LoadWatch


def run_scenario(
    scenario: Scenario,
    videos: Sequence[LoadVideo],
    *,
    seconds: float,
    out: Path,
    target: LoadTarget | None = None,
    more: Sequence[str] = (),
) -> ScenarioRun:
    """Serve, load and watch; `target` is a service that is there. Raise Misconfigured if Locust
    is not there or fails.
    """
    if target is None:
        with scenario.serve() as own:
            return _load(scenario, videos, own, seconds=seconds, out=out, more=more)
    return _load(scenario, videos, target, seconds=seconds, out=out, more=more)


def _load(
    scenario: Scenario,
    videos: Sequence[LoadVideo],
    target: LoadTarget,
    *,
    seconds: float,
    out: Path,
    more: Sequence[str],
) -> ScenarioRun:
    ended = threading.Event()
    with (
        tempfile.TemporaryDirectory(prefix="tamvt-videos-") as folder,
        watching(target.gateways, key=target.metrics_key) as watch,
        ThreadPoolExecutor(1) as threads,
    ):
        for video in videos:
            video.write(Path(folder))
        beside = threads.submit(target.beside, ended) if target.beside is not None else None
        try:
            run_locust(scenario, target, Path(folder), seconds=seconds, out=out, more=more)
        finally:
            ended.set()
        if beside is not None:
            beside.result()
    rows, failures = read_result(out / f"{scenario.name}.json", scenario.name)
    return ScenarioRun(scenario, rows, failures, [*target.told, *watch.notices()], watch)


def run_locust(
    scenario: Scenario,
    target: LoadTarget,
    videos: Path,
    *,
    seconds: float,
    out: Path,
    more: Sequence[str] = (),
) -> None:
    """Run the users of a scenario for so long; raise Misconfigured if that fails."""
    if not LOCUST.is_file():
        raise Misconfigured(f"no Locust at {LOCUST}: scripts/setup loadtests")
    options = {
        "--host": target.url,
        "--videos": str(videos),
        "--users": str(scenario.count),
        "--spawn-rate": str(scenario.count),
        "--run-time": f"{max(1, round(seconds))}s",
        "--stop-timeout": str(STOP_S),
        "--result": str(out / f"{scenario.name}.json"),
        "--exit-code-on-error": "0",
        **({"--hosts": ",".join(target.hosts)} if target.hosts else {}),
        **({"--keys": ",".join(target.keys)} if target.keys else {}),
        **scenario.options,
    }
    words = [word for pair in options.items() for word in pair]
    paths = (str(ROOT), str(ROOT / "clients" / "python"))
    log = out / f"{scenario.name}.log"
    command = [str(LOCUST), "-m", "locust", "-f", str(ROOT / "loadtests" / "locustfile.py")]
    try:
        with log.open("w", encoding="utf-8") as output:
            done = subprocess.run(
                [*command, "--headless", "--only-summary", *words, *more, *scenario.users],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=seconds + STOP_S + SLACK_S,
            )
    except subprocess.TimeoutExpired as error:
        raise Misconfigured(f"Locust did not end in {error.timeout:.0f} s, see {log}") from error
    if done.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [line for line in lines if "Error" in line or "--allow-remote" in line]
        raise Misconfigured(
            f"Locust failed, {log} says why: {errors[-1] if errors else lines[-1:]}"
        )


def read_result(path: Path, scenario: str) -> tuple[list[Row], list[str]]:
    """Return a row for each kind of call, and a sentence for each kind of failure."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows: list[Row] = [{"scenario": scenario, **row} for row in found["rows"]]
    return rows, [f"{scenario}: {failure}" for failure in found["failures"]]
