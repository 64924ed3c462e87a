"""What load tests tell: percentiles, tables, what disturbed them, and the folder they write."""

from __future__ import annotations

import csv
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from loadtests.__main__ import LoadReport
from loadtests.capacity import LiveCase, LiveSessions
from loadtests.figures import Row, describe_run, latency_of, percentile, write_csv, write_table
from loadtests.load_video import LoadVideo, read_load_videos
from loadtests.locust_runs import ScenarioRun
from loadtests.open_loop import OpenLoopOptions, OpenLoopResult
from loadtests.plots import rates_of
from loadtests.scenarios import SCENARIOS
from loadtests.watching import LoadWatch, MachineTimes, classify_family, read_counters
from tamvt_client import Client
from tests.support import scene
from tests.support.running import Running


def result(sessions: int, *, seconds: float = 5.0, p95_ms: float = 50.0) -> OpenLoopResult:
    """Return what an open loop of one frame a second might have shown."""
    options = OpenLoopOptions(sessions=sessions, fps=1, seconds=seconds)
    frames = sessions * options.frames
    latency = latency_of([20.0] * 94 + [p95_ms] * 6)
    return OpenLoopResult(options, latency, 0.1, frames, 0, (), sessions, 1.0, 0.02)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert percentile([7.0], 0.01) == 7
    assert math.isnan(percentile([], 0.5))


def test_rows_become_a_table_and_a_file(tmp_path: Path) -> None:
    rows: list[Row] = [
        {"a": 1, "ms": 12.345},
        {"a": 1234, "ms": 1234.5},
        {"a": 2, "ms": float("nan"), "b": "x"},
    ]
    assert write_table(rows).splitlines() == [
        "| a | ms |",
        "| --- | --- |",
        "| 1 | 12.3 |",
        "| 1234 | 1234 |",
        "| 2 | - |",
    ]
    write_csv(tmp_path / "rows.csv", rows)
    with (tmp_path / "rows.csv").open() as file:
        assert [line["b"] for line in csv.DictReader(file)] == ["", "", "x"]


def test_other_work_is_told_and_ours_is_not() -> None:
    quiet = LoadWatch([], [{"other CPU": 0.01, "stolen": 0.0}])
    loud = LoadWatch([], [{"other CPU": 0.1, "stolen": 0.0}, {"other CPU": 0.5, "stolen": 0.1}])
    assert quiet.notices() == []
    assert [text.split(" of the")[0] for text in loud.notices()] == [
        "disturbed: other work took 30%",
        "disturbed: other machines took 5%",
    ]


def test_a_sample_tells_gateway_redis_and_load_apart(running: Running) -> None:
    family = classify_family()
    assert family[running.process.pid] == "gateway"
    assert family[os.getpid()] == "client"
    assert "redis" in family.values()
    with Client(running.url) as client:
        session = client.start(scene.png(0), scene.mask())
        client.append(session.session_id, [scene.png(1), scene.png(2)], first_frame=1)
    watch = LoadWatch([running.url])
    watch.sample(0.0, 0.0, MachineTimes.now())
    (row,) = watch.rows
    assert all(float(str(row[f"{part} MB"])) > 1 for part in ("gateway", "redis", "client"))
    assert row.keys() >= {"frames", "dropped", "streams", "batch", "other CPU"}
    assert float(str(row["frames"])) >= 2
    assert float(str(row["batch"])) >= 1


def test_counters_of_a_gateway_that_is_away_are_none() -> None:
    assert read_counters(["http://127.0.0.1:1"]) == {}


def test_a_counter_that_starts_anew_has_no_rate() -> None:
    rows: list[Row] = [
        {"second": 1, "frames": 10},
        {"second": 3, "frames": 30},
        {"second": 4, "frames": 2},
        {"second": 5},
    ]
    assert rates_of(rows, "frames") == [None, 10, None, None]


def test_a_report_holds_tables_pictures_and_what_disturbed(tmp_path: Path) -> None:
    watch = LoadWatch([], [{"second": n, "frames": 10 * n, "other CPU": 0.5} for n in (1, 2, 3)])
    row: Row = {"scenario": "rest", "what": "append 8", "count": 3, "failed": 0}
    found = LiveSessions(LiveCase("onnxruntime", 1, 10.0), 4, result(4, seconds=60), watch=watch)
    found.tries = [result(1), result(4), result(8, p95_ms=400)]
    found.targets = [{"what": "p99 / p50", "value": 2.0, "target": "at most 3"}]
    found.held = replace(found.held, late_ms=7.0) if found.held else None
    report = LoadReport(describe_run(), [ScenarioRun(SCENARIOS[0], [row], [], ["one cut"], watch)])
    report.found, report.wrong = [found], ["openvino: not run: not installed"]
    text = report.write(tmp_path)
    assert "| onnxruntime | 1 | 10 | 4 | 60 |" in text
    assert report.about["commit"] in text
    for notice in (
        "the client itself was 7 ms late",
        "rest: one cut",
        "disturbed: other work took 50%",
        "not run: not installed",
    ):
        assert notice in text
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {
        *("report.md", "latency.svg", "seconds.svg"),
        *("sessions.csv", "scenarios.csv", "seconds.csv"),
    }


def test_a_video_is_read_as_it_was_written(video: LoadVideo, tmp_path: Path) -> None:
    video.write(tmp_path)
    assert read_load_videos(tmp_path) == [video]
    source = video.endless()
    assert [next(source) for _ in range(2)] == video.frames[1:3]


@pytest.mark.parametrize("name", ["p95_ms", "lost", "refused"])
def test_sessions_are_live_only_if_every_frame_is_in_time(name: str) -> None:
    good = result(2)
    assert good.is_live(p95_ms=100)
    late = result(2, p95_ms=100.0)
    lost = OpenLoopResult(good.options, good.latency, 0.1, 9, 0, (), 2, 1.0, 0.02)
    refused = OpenLoopResult(good.options, good.latency, 0.1, 10, 0, ("503",), 2, 1.0, 0.02)
    assert not {"p95_ms": late, "lost": lost, "refused": refused}[name].is_live(p95_ms=100)
