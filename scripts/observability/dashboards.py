"""Write Grafana's dashboards of deploy/observability: service, engine, tenants, cost.

    python -m scripts.observability.dashboards            write them anew
    python -m scripts.observability.dashboards --check    say which are not those of this script

A dashboard is a list of panels, a panel a title, a unit and a few queries. The rest of Grafana's
JSON is the same for all, so there is no library for it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

FOLDER: Final = Path(__file__).resolve().parents[2] / "deploy" / "observability" / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT, COLUMNS = 12, 8, 2


class Query(NamedTuple):
    """An expression, and what its lines are called."""

    expression: str
    legend: str


class Panel(NamedTuple):
    """One picture: lines over time. `unit` is Grafana's."""

    title: str
    unit: str
    queries: tuple[Query, ...]
    meaning: str = ""


class Dashboard(NamedTuple):
    """A page of panels."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def quantiles(metric: str, *, by: str = "", where: str = "") -> tuple[Query, ...]:
    """Return the median and the 95th percentile of a histogram."""
    labels = f"{by}, le" if by else "le"
    buckets = f"sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval]))"
    name = f" {{{{{by}}}}}" if by else ""
    return tuple(
        Query(f"histogram_quantile({q}, {buckets})", f"p{100 * q:.0f}{name}") for q in (0.5, 0.95)
    )


def rate(metric: str, *, by: str = "", where: str = "") -> str:
    """Return how fast a counter grows a second, over all processes."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{where}[$__rate_interval]))"


SERVICE = Dashboard(
    "service",
    "TAM-VT: service",
    (
        Panel("Frames", "fps", (Query(rate("tamvt_frames_total"), "frames"),)),
        Panel(
            "Requests",
            "reqps",
            (Query(rate("tamvt_requests_total", by="status"), "{{status}}"),),
        ),
        Panel("Time of a request", "s", quantiles("tamvt_request_seconds")),
        Panel(
            "Time of a clip, by stage",
            "s",
            (
                Query(
                    "histogram_quantile(0.95, sum by (stage, le) "
                    "(rate(tamvt_clip_stage_seconds_bucket[$__rate_interval])))",
                    "{{stage}}",
                ),
            ),
            "The 95th percentile: where a late frame was late.",
        ),
        Panel(
            "Open",
            "short",
            (
                Query("sum(tamvt_sessions_active)", "sessions"),
                Query("sum(tamvt_streams_open)", "streams"),
                Query("sum(tamvt_requests_in_flight)", "requests"),
            ),
        ),
        Panel(
            "Problems",
            "reqps",
            (Query(rate("tamvt_problems_total", by="problem") + " > 0", "{{problem}}"),),
        ),
        Panel(
            "Streams ended",
            "short",
            (Query(rate("tamvt_streams_closed_total", by="code"), "{{code}}"),),
            "1000 is the client's end, 1012 a restart, 1013 overload, 4001 a take-over.",
        ),
        Panel(
            "Objects",
            "short",
            (Query(rate("tamvt_object_frames_total", by="state"), "{{state}}"),),
            "Objects in frames, a second. Many that are lost: scenes the model does not master.",
        ),
    ),
)
ENGINE = Dashboard(
    "engine",
    "TAM-VT: engine",
    (
        Panel(
            "Time in the engine",
            "s",
            quantiles("tamvt_clip_stage_seconds", where='{stage="inference"}'),
        ),
        Panel(
            "Waiting and running",
            "short",
            (
                Query("max by (instance) (tamvt_engine_queue)", "waiting {{instance}}"),
                Query("max by (instance) (tamvt_engine_running)", "running {{instance}}"),
            ),
        ),
        Panel(
            "Clips that run together",
            "short",
            (
                Query(
                    f"{rate('tamvt_batch_size_sum')} / {rate('tamvt_batch_size_count')}",
                    "mean batch",
                ),
            ),
        ),
        Panel(
            "Banks",
            "bytes",
            (Query("max by (instance) (tamvt_bank_bytes)", "{{instance}}"),),
        ),
        Panel(
            "Uses of a bank",
            "short",
            (
                Query(rate("tamvt_bank_hits_total"), "found"),
                Query(rate("tamvt_bank_rebuilds_total"), "made anew"),
            ),
        ),
        Panel(
            "Canary",
            "percentunit",
            (Query("tamvt_canary_j", "{{model}} {{instance}}"),),
            "J of the canary clip. Below 0.7 the gateway is not ready.",
        ),
        Panel(
            "Calls to Redis",
            "s",
            (
                Query(
                    "histogram_quantile(0.99, sum by (operation, le) "
                    "(rate(tamvt_redis_seconds_bucket[$__rate_interval])))",
                    "{{operation}}",
                ),
            ),
            "The 99th percentile.",
        ),
        Panel("Calls to Triton", "s", quantiles("tamvt_triton_seconds", by="operation")),
        Panel(
            "Calls that failed",
            "short",
            (
                Query(rate("tamvt_redis_errors_total", by="operation"), "Redis {{operation}}"),
                Query(rate("tamvt_triton_errors_total", by="operation"), "Triton {{operation}}"),
            ),
        ),
        Panel(
            "Processes",
            "bytes",
            (Query("process_resident_memory_bytes and on (instance) tamvt_tasks", "{{instance}}"),),
        ),
        Panel(
            "Tasks and decoders",
            "short",
            (
                Query("sum(tamvt_tasks)", "tasks"),
                Query("sum(tamvt_decoder_children)", "decoders of videos"),
            ),
        ),
    ),
)
TENANTS = Dashboard(
    "tenants",
    "TAM-VT: tenants",
    (
        Panel(
            "Frames", "fps", (Query(rate("tamvt_tenant_frames_total", by="tenant"), "{{tenant}}"),)
        ),
        Panel(
            "Sessions",
            "short",
            (Query("sum by (tenant) (tamvt_sessions_active)", "{{tenant}}"),),
            "Sessions of which a frame was committed within the last minute.",
        ),
        Panel(
            "Engine",
            "percentunit",
            (Query(rate("tamvt_tenant_engine_seconds_total", by="tenant"), "{{tenant}}"),),
            "Seconds of the engine a second, waiting included: 1 keeps one engine busy.",
        ),
        Panel(
            "Time of the engine on a frame",
            "s",
            (
                Query(
                    f"{rate('tamvt_tenant_engine_seconds_total', by='tenant')} / "
                    f"{rate('tamvt_tenant_frames_total', by='tenant')}",
                    "{{tenant}}",
                ),
            ),
        ),
        Panel(
            "Beyond a quota",
            "reqps",
            (Query(rate("tamvt_quota_refusals_total", by="problem"), "{{problem}}"),),
        ),
    ),
)
COST = Dashboard(
    "cost",
    "TAM-VT: cost",
    (
        Panel(
            "Engine seconds an hour, by tenant",
            "s",
            (
                Query(
                    "sum by (tenant) (increase(tamvt_tenant_engine_seconds_total[1h]))",
                    "{{tenant}}",
                ),
            ),
            "What to bill by.",
        ),
        Panel(
            "Frames a second of the engine",
            "fps",
            (
                Query(
                    f"{rate('tamvt_frames_total')} / {rate('tamvt_tenant_engine_seconds_total')}",
                    "frames",
                ),
            ),
        ),
        Panel(
            "Processor time of a frame",
            "s",
            (
                Query(
                    "sum(rate(process_cpu_seconds_total[$__rate_interval]) and on (instance) "
                    f"tamvt_tasks) / {rate('tamvt_frames_total')}",
                    "gateways",
                ),
            ),
        ),
        Panel(
            "Memory of a session",
            "bytes",
            (
                Query(
                    "sum(process_resident_memory_bytes and on (instance) tamvt_tasks) / "
                    "sum(tamvt_sessions_active)",
                    "gateways",
                ),
                Query("sum(tamvt_bank_bytes) / sum(tamvt_sessions_active)", "banks"),
            ),
        ),
        Panel(
            "Traffic",
            "Bps",
            (
                Query(rate("tamvt_received_bytes_total"), "received"),
                Query(rate("tamvt_sent_bytes_total"), "sent"),
            ),
        ),
    ),
)
DASHBOARDS: Final = (SERVICE, ENGINE, TENANTS, COST)


def grafana_panels(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Yield Grafana's panels, two in a row."""
    for number, panel in enumerate(panels):
        row, column = divmod(number, COLUMNS)
        yield {
            "id": number + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.meaning,
            "datasource": SOURCE,
            "gridPos": {"x": WIDTH * column, "y": HEIGHT * row, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": SOURCE,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                }
                for index, query in enumerate(panel.queries)
            ],
        }


def grafana_json(dashboard: Dashboard) -> str:
    """Return a dashboard as Grafana imports it."""
    whole = {
        "uid": f"tamvt-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["tamvt"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "panels": list(grafana_panels(dashboard.panels)),
    }
    return json.dumps(whole, indent=1) + "\n"


def main() -> int:
    """Write the dashboards, or return 1 where `--check` finds one that is not current."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which are not current")
    check = parser.parse_args().check
    old = 0
    for dashboard in DASHBOARDS:
        path, text = FOLDER / f"{dashboard.name}.json", grafana_json(dashboard)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            old += 1
            if check:
                print(f"{path.name} is not current: python -m scripts.observability.dashboards")
            else:
                path.write_text(text, encoding="utf-8")
    return int(check and old > 0)


if __name__ == "__main__":
    sys.exit(main())
