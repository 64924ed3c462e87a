"""`tamvt top` shows what gateways did between two looks."""

from __future__ import annotations

import io
import threading
from math import isnan

import pytest
from rich.console import Console

from service.commands.top import ScrapeRound, compare_rounds, draw_view
from service.commands.top_figures import (
    Scrape,
    compute_figures,
    count_by_bucket,
    estimate_quantile,
    read_scrape,
)
from tests.support import scene
from tests.support.running import Api, Running, run_tamvt


def looks(api: Api) -> tuple[Scrape, Scrape]:
    """Two looks at a service, ten seconds apart by their clock, with two clips between them."""
    session = api.start()
    api.append(session, [scene.jpeg(1)], first=1)
    before = read_scrape([api.http.get("/metrics").text], at_s=0.0)
    api.append(session, [scene.jpeg(n) for n in range(2, 6)], first=2)
    return before, read_scrape([api.http.get("/metrics").text], at_s=10.0)


def shown(before: Scrape, now: Scrape) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(draw_view(compute_figures(before, now), silent=["http://b does not answer"]))
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_what_happened_between_two_looks_is_shown(api: Api) -> None:
    before, now = looks(api)
    found = compute_figures(before, now)
    assert found.frames_per_s == pytest.approx(0.4)
    assert (found.found_share, found.rebuilds_per_s, found.lost_share) == (1.0, 0.0, 0.0)
    tenant = next(one for one in found.tenants if one.tenant == "default")
    assert tenant.frames_per_s == pytest.approx(0.4)
    assert tenant.sessions >= 1
    mean, late = found.stages["inference"]
    assert 0 < mean < 10
    assert 0 < late < 10
    assert 0 < found.redis_p99_s < 5
    text = shown(before, now)
    assert "frames/s 0.4" in text
    assert "banks found 100%" in text
    assert "http://b does not answer" in text


def test_gateways_are_added_up_and_a_new_start_is_no_loss(api: Api) -> None:
    text = api.http.get("/metrics").text
    one, two = read_scrape([text], at_s=0.0), read_scrape([text, text], at_s=1.0)
    assert two.total("tamvt_frames_total") == 2 * one.total("tamvt_frames_total")
    assert compute_figures(two, one).frames_per_s == 0.0


def test_a_quantile_lies_on_a_line_through_its_bucket() -> None:
    upper = [(0.1, 0.0), (0.5, 10.0), (1.0, 20.0), (float("inf"), 20.0)]
    assert estimate_quantile(0.5, upper) == pytest.approx(0.5)
    assert estimate_quantile(0.75, upper) == pytest.approx(0.75)
    assert estimate_quantile(0.95, [(0.1, 0.0), (float("inf"), 5.0)]) == 0.1
    assert isnan(estimate_quantile(0.5, [(0.1, 0.0), (float("inf"), 0.0)]))
    assert isnan(estimate_quantile(0.5, []))


def test_the_command_looks_at_a_running_service(running: Running, api: Api) -> None:
    session = api.start()
    stop = threading.Event()

    def track() -> None:
        number = 1
        while not stop.is_set():
            api.append(session, [scene.jpeg(number)], first=number)
            number += 1

    tracking = threading.Thread(target=track)
    tracking.start()
    try:
        done = run_tamvt("top", running.url, "--once", "--every", "1")
    finally:
        stop.set()
        tracking.join()
    assert done.returncode == 0, done.stderr
    assert "default" in done.stdout
    assert "frames/s 0.0" not in done.stdout


def test_a_service_that_does_not_answer_is_one_line() -> None:
    done = run_tamvt("top", "http://127.0.0.1:9", "--once")
    assert done.returncode == 1
    assert done.stderr.startswith("tamvt: http://127.0.0.1:9 does not answer")
    assert len(done.stderr.splitlines()) == 1


def test_the_whole_life_of_a_gateway_is_no_rate(api: Api) -> None:
    before, now = looks(api)
    silent = ScrapeRound(before, {"http://b": "http://b does not answer"})
    assert compare_rounds(silent, ScrapeRound(now, {})).frames_per_s == 0
    assert compare_rounds(
        ScrapeRound(before, {}), ScrapeRound(now, {})
    ).frames_per_s == pytest.approx(0.4)


def test_a_histogram_that_began_anew_has_no_negative_counts(api: Api) -> None:
    before, now = looks(api)
    counts = [count for _, count in count_by_bucket(now, before, "tamvt_redis_seconds")]
    assert counts
    assert set(counts) == {0.0}
