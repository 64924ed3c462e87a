"""`tamvt top`: a live view of tenants, sessions, frames, latency and queue of running gateways."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from math import isnan
from typing import Annotated, Final, NamedTuple

import httpx
from cyclopts import Parameter
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from service.commands.top_figures import Figures, Scrape, compute_figures, read_scrape
from service.errors import Unavailable
from service.settings import API_KEY

LEAST_EVERY_S: Final = 0.2
DEADLINE_S: Final = 5.0
TENANTS: Final = 20


def run(
    urls: Annotated[list[str], Parameter(help="addresses of gateways, which are added up")] = [  # noqa: B006  # cyclopts shows it and never changes it
        "http://127.0.0.1:8000"
    ],
    *,
    every: Annotated[float, Parameter(help="seconds between two looks")] = 2.0,
    once: Annotated[bool, Parameter(help="print one view and end")] = False,
) -> int:
    """Show until Ctrl-C what gateways do; raise Unavailable if none answers."""
    every_s = max(LEAST_EVERY_S, every)
    key = os.environ.get(API_KEY, "")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    console = Console()
    with httpx.Client(headers=headers, timeout=DEADLINE_S) as http:
        before = scrape_gateways(http, urls)
        with Live(console=console, auto_refresh=False, screen=not once) as live:
            while True:
                time.sleep(every_s)
                now = scrape_gateways(http, urls)
                found = compare_rounds(before, now)
                live.update(draw_view(found, silent=tuple(now.silent.values())), refresh=True)
                if once:
                    return 0
                before = now


class ScrapeRound(NamedTuple):
    """What the gateways tell together, and of each that does not answer why."""

    scrape: Scrape
    silent: Mapping[str, str]


def compare_rounds(before: ScrapeRound, now: ScrapeRound) -> Figures:
    """Return what happened between two looks, if the same gateways answered both times.

    Else there are no rates this time: the counters of one that is new are its whole life.
    """
    same = before.silent.keys() == now.silent.keys()
    return compute_figures(before.scrape if same else now.scrape, now.scrape)


def scrape_gateways(http: httpx.Client, urls: Sequence[str]) -> ScrapeRound:
    """Return what the gateways tell now, and why others do not; raise Unavailable if none does."""
    texts, silent = [], dict[str, str]()
    for url in urls:
        try:
            answer = http.get(f"{url.rstrip('/')}/metrics").raise_for_status()
            texts.append(answer.text)
        except httpx.HTTPStatusError as error:
            hint = f" (an admin's key in {API_KEY}?)" if error.response.status_code < 404 else ""
            silent[url] = f"{url} answers {error.response.status_code}{hint}"
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            silent[url] = f"{url} does not answer: {error}"
    if not texts:
        raise Unavailable("; ".join(silent.values()))
    try:
        return ScrapeRound(read_scrape(texts, at_s=time.monotonic()), silent)
    except ValueError as error:
        raise Unavailable(f"{', '.join(urls)} does not tell the metrics of `tamvt`") from error


def draw_view(found: Figures, *, silent: Sequence[str] = ()) -> Group:
    """Return the tables that are shown."""
    head = Table.grid(padding=(0, 3))
    cells = (
        ("frames/s", f"{found.frames_per_s:.1f}"),
        ("sessions", str(found.sessions)),
        ("streams", str(found.streams)),
        ("requests", str(found.requests)),
        ("waiting", str(found.waiting)),
        ("running", str(found.running)),
        ("rebuilds/s", f"{found.rebuilds_per_s:.2f}"),
        ("banks found", format_percent(found.found_share)),
        ("Redis p99", format_ms(found.redis_p99_s)),
        ("lost", format_percent(found.lost_share)),
        ("problems/s", f"{found.problems_per_s:.2f}"),
        ("quota/s", f"{found.refusals_per_s:.2f}"),
    )
    for row in (cells[:4], cells[4:8], cells[8:]):
        head.add_row(*(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in row))
    stages = Table("stage of a clip", "mean", "p95", box=None, header_style="dim")
    for stage, (mean, late) in found.stages.items():
        stages.add_row(stage, format_ms(mean), format_ms(late))
    tenants = Table(
        "tenant", "sessions", "frames/s", "engine and wait", box=None, header_style="dim"
    )
    for one in found.tenants[:TENANTS]:
        tenants.add_row(
            Text(one.tenant),
            str(one.sessions),
            f"{one.frames_per_s:.1f}",
            format_percent(one.engine_share),
        )
    if len(found.tenants) > TENANTS:
        tenants.add_row(f"and {len(found.tenants) - TENANTS} more")
    return Group(head, "", tenants, "", stages, *(Text(line, style="red") for line in silent))


def format_percent(value: float) -> str:
    """Return a share for people; a dash where nothing happened."""
    return "-" if isnan(value) else f"{value:.0%}"


def format_ms(seconds: float) -> str:
    """Return a time for people; a dash where nothing happened."""
    return "-" if isnan(seconds) else f"{1000 * seconds:.1f} ms"
