"""Dashboards and alerts ask for what there is, and a real Prometheus understands each of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.deploy.check import CheckFailed, run
from scripts.observability import check
from scripts.observability.alerts import RULES, markdown_table, rules
from scripts.observability.dashboards import DASHBOARDS, FOLDER, Dashboard
from tests.support import scene
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.running import ROOT, Api, Running

# What only something that goes wrong, or a Triton, brings about.
SILENT = re.compile("problems|triton|quota|streams_closed|redis_errors")


def test_every_metric_that_is_asked_for_exists() -> None:
    asked = check.list_asked_series()
    assert len(asked) > 30
    assert asked - check.list_series() == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_the_dashboards_are_what_the_script_writes(dashboard: Dashboard, tmp_path: Path) -> None:
    check.check_dashboard(dashboard)
    name = f"{dashboard.name}.json"
    (tmp_path / name).write_text((FOLDER / name).read_text().replace("rate(", "irate(", 1))
    with pytest.raises(CheckFailed, match=f"{name} is not current"):
        check.check_dashboard(dashboard, tmp_path)


def test_a_query_that_is_no_promql_is_found() -> None:
    check.check_queries(check.name_queries())
    with pytest.raises(CheckFailed, match=r"a panel.*parse error"):
        check.check_queries({"a panel": "sum(rate(tamvt_frames_total[$__rate_interval])"})


def test_what_make_check_runs_finds_nothing() -> None:
    assert len(list(check.run_checks())) == 3
    makefile = (ROOT / "Makefile").read_text()
    assert "python -m scripts.observability.check" in makefile.partition("\ncheck:")[2]


def test_each_alert_has_a_line_of_advice_in_the_documents() -> None:
    assert markdown_table() in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_each_alert_fires_on_what_it_is_for_and_on_nothing_else() -> None:
    tested = check.TESTS.read_text()
    assert [r["alert"] for r in rules() if "alert" in r and r["alert"] not in tested] == []
    run("promtool", "test", "rules", check.TESTS)


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
    for name, expression in check.name_queries().items():
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
