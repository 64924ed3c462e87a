"""Draw docs/images/dashboard-*.png and top.svg: `python -m scripts.observability.pictures`.

A service with the shipped model and a real Prometheus run here; two tenants track the built-in
sample in appends of eight frames and of two, and ask for masks that are not there yet. The
pictures are drawn of what that Prometheus answers to the queries of the dashboards' panels.
"""

from __future__ import annotations

import argparse
import io
import math
import re
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import httpx
import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from rich.console import Console

from loadtests.load_video import LoadVideo
from loadtests.videos import sample_video
from model.core.contract import SHIPPED_WEIGHTS
from scripts.observability.alerts import RULES
from scripts.observability.dashboards import DASHBOARDS, Dashboard, Panel
from service.commands.top import draw_view, scrape_gateways
from service.commands.top_figures import compute_figures
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.running import running_service

IMAGES: Final = Path(__file__).resolve().parents[2] / "docs" / "images"
WINDOW: Final = "15s"  # for $__rate_interval, with a scrape each second
UNITS: Final = {"s": "s", "bytes": "MB", "Bps": "MB/s", "percentunit": "", "short": ""}
MEGA: Final = 1e6
COLUMNS: Final = 2


def track(url: str, tenant: str, video: LoadVideo, *, at_once: int, stop: threading.Event) -> None:
    """Track the sample over and over as one tenant, with so many frames in an append."""
    images = video.endless()
    with httpx.Client(base_url=url, headers={"X-Tenant": tenant}, timeout=60) as http:
        files = {"frame": ("0.jpg", video.frames[0]), "mask": ("0.png", video.mask)}
        session = http.post("/v1/sessions", files=files).raise_for_status().json()["session_id"]
        number = 1
        while not stop.is_set():
            frames = [("frames", ("0.jpg", next(images), "image/jpeg")) for _ in range(at_once)]
            path = f"/v1/sessions/{session}/clips"
            answer = http.post(path, params={"first_frame": number}, files=frames)
            number += at_once if answer.status_code == 200 else 0
            http.get(f"/v1/sessions/{session}/masks/{number + 100}.png")  # a frame that is to come


def draw(dashboard: Dashboard, prometheus: Prometheus, *, began_s: float) -> None:
    """Draw a dashboard's panels from then to now."""
    rows = math.ceil(len(dashboard.panels) / COLUMNS)
    figure, grid = plt.subplots(
        rows, COLUMNS, figsize=(10, 2.1 * rows), layout="constrained", squeeze=False
    )
    for axes, panel in zip(grid.flat, dashboard.panels, strict=False):
        draw_panel(axes, panel, prometheus, began_s=began_s)
    for axes in grid.flat[len(dashboard.panels) :]:
        axes.set_axis_off()
    figure.savefig(IMAGES / f"dashboard-{dashboard.name}.png", dpi=90)
    plt.close(figure)


def draw_panel(axes: Axes, panel: Panel, prometheus: Prometheus, *, began_s: float) -> None:
    """Draw one panel: a line for each series that its queries answer."""
    scale = MEGA if panel.unit in ("bytes", "Bps") else 1.0
    for query in panel.queries:
        answer = prometheus.http.get(
            "/api/v1/query_range",
            params={
                "query": query.expression.replace("$__rate_interval", WINDOW),
                "start": began_s,
                "end": time.time(),
                "step": "1s",
            },
        ).json()
        for series in answer["data"]["result"]:
            points = [(float(at) - began_s, float(value) / scale) for at, value in series["values"]]
            axes.plot(*zip(*points, strict=True), label=legend(query.legend, series["metric"]))
    unit = UNITS.get(panel.unit, "1/s")
    axes.set_title(f"{panel.title} ({unit})" if unit else panel.title, loc="left", fontsize=9)
    axes.set_ylim(bottom=0)
    if axes.lines:
        axes.legend(fontsize=6, loc="upper left", ncols=2, frameon=False)


def legend(template: str, labels: dict[str, Any]) -> str:
    """Return what Grafana would write of a series."""
    for name, value in labels.items():
        template = template.replace(f"{{{{{name}}}}}", str(value))
    return template


def draw_top(url: str, *, seconds: float) -> None:
    """Draw what `tamvt top` shows of so many seconds."""
    with httpx.Client(timeout=60) as http:
        before, _ = scrape_gateways(http, [url])
        time.sleep(seconds)
        now, _ = scrape_gateways(http, [url])
    console = Console(record=True, width=90, file=io.StringIO())
    console.print(draw_view(compute_figures(before, now)))
    # Without the fonts that a reader's browser would fetch from elsewhere.
    drawn = re.sub(
        r"@font-face \{.*?\}", "", console.export_svg(title="tamvt top"), flags=re.DOTALL
    )
    (IMAGES / "top.svg").write_text(drawn, encoding="utf-8")


def main() -> None:
    """Run, track, ask and draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    mpl.rcParams.update({"font.size": 7, "axes.spines.top": False, "axes.spines.right": False})
    settings = {
        "TAMVT_TENANT_HEADER": "X-Tenant",
        "TAMVT_TRUSTED_PROXIES": "127.0.0.1",
        "TAMVT_CANARY_INTERVAL_S": "5",
        "TAMVT_LOG_LEVEL": "error",
        "TAMVT_MODEL": "tamvt-mobile",
    }
    video, stop = sample_video(), threading.Event()
    with tempfile.TemporaryDirectory(prefix="tamvt-dashboards-") as folder:
        service = running_service(
            state=Path(folder) / "state", weights=SHIPPED_WEIGHTS, settings=settings
        )
        with (
            service as running,
            running_prometheus(
                Path(folder), running.url.removeprefix("http://"), rules=[RULES], interval="1s"
            ) as prometheus,
        ):
            began_s = time.time()
            tracking = [
                threading.Thread(
                    target=track,
                    args=(running.url, tenant, video),
                    kwargs={"at_once": at_once, "stop": stop},
                )
                for tenant, at_once in (("ann", 8), ("ann", 2), ("bob", 2))
            ]
            for thread in tracking:
                thread.start()
                time.sleep(seconds / 6)
            draw_top(running.url, seconds=seconds / 2)
            for dashboard in DASHBOARDS:
                draw(dashboard, prometheus, began_s=began_s)
            stop.set()
            for thread in tracking:
                thread.join()


if __name__ == "__main__":
    main()
