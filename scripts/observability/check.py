"""Check dashboards, rules and the configuration of Prometheus, offline.

    python -m scripts.observability.check

Dashboards are those that the script writes; every metric that a panel, a rule or a manifest names
exists; Prometheus's own tool reads each panel's queries, the rules and Compose's configuration, and
runs the tests of the rules.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from scripts.deploy.check import CHART, ROOT, CheckFailed, report, run
from scripts.observability.alerts import RULES, rules
from scripts.observability.dashboards import DASHBOARDS, FOLDER, Dashboard, grafana_json
from service.telemetry.metrics import Metrics

TESTS = ROOT / "deploy/observability/tests/tamvt.yml"
PROMETHEUS = ROOT / "deploy/compose/prometheus.yml"


def name_queries() -> dict[str, str]:
    """Return every query of the dashboards by where it stands."""
    return {
        f"{dashboard.name}: {panel.title}: {query.legend}": query.expression
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
    }


def list_series() -> set[str]:
    """Return the names of every series that the service has, and of those that the rules record."""
    found = {rule["record"] for rule in rules() if "record" in rule}
    for name, metric in Metrics().told().items():
        endings = ("_bucket", "_sum", "_count") if metric.type == "histogram" else ("",)
        found |= {f"{name}{ending}" for ending in endings}
    return found


def list_asked_series() -> set[str]:
    """Return the names of our series that panels, rules and the files of deploy/ ask for."""
    asked = [*name_queries().values(), *(rule["expr"] for rule in rules())]
    files = {*(ROOT / "deploy").rglob("*.y*ml")} - {RULES, CHART / "files/rules.yml"}
    asked += [path.read_text() for path in files if "node_modules" not in path.parts]
    return {name for text in asked for name in re.findall(r"\btamvt[:_][a-z][\w:]*", text)}


def check_dashboard(dashboard: Dashboard, folder: Path = FOLDER) -> None:
    """Raise CheckFailed unless the file is what the script writes."""
    path = folder / f"{dashboard.name}.json"
    if not path.is_file() or path.read_text() != grafana_json(dashboard):
        raise CheckFailed(f"{path.name} is not current: python -m scripts.observability.dashboards")


def check_queries(queries: Mapping[str, str]) -> None:
    """Raise CheckFailed where Prometheus cannot read one."""
    groups = [
        {"name": name, "rules": [{"record": "checked", "expr": query}]}
        for name, query in queries.items()
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
        file.write(yaml.safe_dump({"groups": groups}).replace("$__rate_interval", "1m"))
        file.flush()
        run("promtool", "check", "rules", "--lint=none", file.name)


def run_checks() -> Iterator[str]:
    """Yield what was found right, one after the other; raise CheckFailed at the first fault."""
    for dashboard in DASHBOARDS:
        check_dashboard(dashboard)
    check_queries(name_queries())
    yield "dashboards (those of the script, every query is PromQL)"
    if unknown := list_asked_series() - list_series():
        raise CheckFailed(f"no such metric: {', '.join(sorted(unknown))}")
    yield "metrics that are asked for"
    run("promtool", "check", "rules", RULES)
    run("promtool", "test", "rules", TESTS)
    run("promtool", "check", "config", "--syntax-only", PROMETHEUS)
    yield "rules, their tests, and Compose's Prometheus (promtool)"


if __name__ == "__main__":
    sys.exit(report(run_checks()))
