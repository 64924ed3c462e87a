"""Dashboards and alerts ask for what there is, and a real Prometheus understands each of them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.observability.alerts import RULES, markdown_table, rules
from scripts.observability.dashboards import DASHBOARDS, FOLDER, Dashboard, grafana_json
from service.telemetry.metrics import Metrics
from tests.support import scene
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.running import ROOT, Api, Running

# What only something that goes wrong, or a Triton, brings about.
SILENT = re.compile("problems|triton|quota|streams_closed|redis_errors")
EXPRESSIONS = {
    f"{dashboard.name}: {panel.title}: {query.legend}": query.expression
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
    for query in panel.queries
}


def names_that_exist() -> set[str]:
    """Every series that the service has, and what the rules record."""
    found = {rule["record"] for rule in rules() if "record" in rule}
    for name, metric in Metrics().told().items():
        endings = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        found |= {f"{name}{ending}" for ending in endings}
    return found


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = [*EXPRESSIONS.values(), *(rule["expr"] for rule in rules())]
    files = {*(ROOT / "deploy").rglob("*.y*ml")} - {RULES}
    asked += [
        path.read_text(encoding="utf-8") for path in files if "node_modules" not in path.parts
    ]
    found = {name for text in asked for name in re.findall(r"\btamvt[:_][a-z][\w:]*", text)}
    assert len(found) > 30
    assert found - names_that_exist() == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_the_dashboards_are_what_the_script_writes(dashboard: Dashboard) -> None:
    written = (FOLDER / f"{dashboard.name}.json").read_text(encoding="utf-8")
    assert written == grafana_json(dashboard)


def test_each_alert_has_a_line_of_advice_in_the_documents() -> None:
    assert markdown_table() in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else() -> None:
    tests = ROOT / "deploy" / "observability" / "tests" / "tamvt.yml"
    tested = tests.read_text(encoding="utf-8")
    assert [r["alert"] for r in rules() if "alert" in r and r["alert"] not in tested] == []
    command = ["promtool", "test", "rules", str(tests)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory, running: Running, api: Api
) -> Iterator[Prometheus]:
    """A Prometheus that has seen a session being tracked."""
    folder: Path = tmp_path_factory.mktemp("prometheus")
    target = running.url.removeprefix("http://")
    with running_prometheus(folder, target, rules=[RULES]) as prometheus:
        session = api.start()
        prometheus.wait_for("tamvt_sessions_total")
        for number in range(1, 4):
            api.append(session, [scene.jpeg(number)], first=number)
            seen = f"tamvt_frames_total >= {number}"
            prometheus.wait_for(seen)
        yield prometheus


def test_a_real_prometheus_answers_every_panel(prometheus: Prometheus) -> None:
    prometheus.wait_for("rate(tamvt_frames_total[1m]) > 0")
    silent = []
    for name, expression in EXPRESSIONS.items():
        found = prometheus.query(expression.replace("$__rate_interval", "1m"))
        if not found and not SILENT.search(expression):
            silent.append(name)
    assert silent == []


def test_a_real_prometheus_evaluates_every_rule(prometheus: Prometheus) -> None:
    prometheus.wait_for("tamvt:frames:rate5m")
    groups = prometheus.http.get("/api/v1/rules").json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert len(health) == len(list(rules()))
    assert {name for name, state in health.items() if state == "err"} == set()
    # Others may be pending for a while: on a slow machine clips are slow.
    assert prometheus.query('ALERTS{alertstate="firing"}') == []
