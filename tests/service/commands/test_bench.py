"""`tamvt bench` with the toy model: its tables, its figures, and the sessions it measures."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loadtests.compare import ENGINE
from service.commands.bench import BenchArguments
from service.commands.bench_results import (
    BenchFigure,
    compare_figures,
    milliseconds,
    read_figures,
    share,
    write_figures,
)
from service.commands.bench_soak import SoakReport, soak
from service.commands.process_figures import cpu_s, descendants, held, read_resident_mb
from service.commands.steady_session import (
    SteadySession,
    processor,
    scale_sample_footage,
)
from service.engines.embedded import embedded_engine
from service.errors import Misconfigured
from service.settings import read_settings
from tests.support.running import run_tamvt


@pytest.fixture
def toy(toy_folder: Path) -> dict[str, str]:
    return {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}


def test_the_engines_table_has_a_row_for_each_case(toy: dict[str, str], tmp_path: Path) -> None:
    words = ["--size", "64x96", "--clips", "10", "--frames", "150", "--clip-length", "1", "2"]
    words += ["--against", toy["TAMVT_WEIGHTS"]]
    written = tmp_path / "figures.json"
    done = run_tamvt("bench", "engine", *words, "--json", str(written), settings=toy)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^toy, 64x96, \d{4}-\d\d-\d\d, .+, \d+ threads$", done.stdout, re.M)
    for length in (1, 2):
        for objects in (1, 2, 3):
            row = rf"^\| onnxruntime/fp32 \| {length} \| {objects} \| [\d.]+ \| [\d.]+ \| [\d.]+ \|"
            assert re.search(row + r".* \| [\d.]+, [\d.]+ \|$", done.stdout, re.M)
    assert "% of the first |" in done.stdout
    assert "around frames 100 and 150" in done.stdout
    figures = read_figures(written)
    assert figures["engine onnxruntime/fp32 L=2 O=3 clip"].unit == "ms"
    assert json.loads(written.read_text())["about"]["model"] == "toy"


def test_the_services_table_sets_each_way_beside_the_engine(toy: dict[str, str]) -> None:
    words = ["--size", "64x96", "--frames", "32", "--rounds", "1", "--workers", "1"]
    done = run_tamvt("bench", "service", *words, "--sessions", "2", settings=toy)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\| engine alone \| [\d.]+ \| \| \| [\d.]+ \| \|$", done.stdout, re.M)
    for way in ("REST", "WebSocket", "2 streams"):
        even = r"[01]\.\d\d" if way == "2 streams" else ""
        row = rf"^\| {way}, 1 worker \| [\d.]+ \| [\d.]+ \| {even} \| [\d.]+ \| [+-][\d.]+ \|$"
        assert re.search(row, done.stdout, re.M), done.stdout


def test_a_short_soak_leaves_nothing(toy: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in toy.items():
        monkeypatch.setenv(name, value)
    arguments = BenchArguments(
        size=(64, 96), frames=64, sessions=3, session_frames=4, frame_sizes=2, size_rounds=2
    )
    report = soak(arguments, read_settings(), threads=1, settle_s=0.2)
    # Times and megabytes of so few frames say nothing; what is counted does.
    names = {name.partition(" (")[0] for name in report.failed}
    counted = {"descriptors", "tasks", "children", "regions", "Redis, MB, most of a session"}
    assert not counted & names, report.tables
    about = "soak onnxruntime/fp32"
    assert report.figures[f"{about}, Redis, MB, when all is deleted"].value < 1.5
    assert f"{about}, RSS, MB, 2 frame sizes again, 2 rounds" in report.figures
    assert "in quarters: " in report.tables[0]


def test_what_grows_past_its_bound_is_named() -> None:
    report = SoakReport()
    report.begin("toy")
    report.add_measure("RSS", 100, 101.9, 0.02)
    report.add_measure("clip", 10, 10.6, 0.05)
    report.add_count("tasks", 3, 5, 2)
    report.add_count("children", 1, 2, 0)
    assert report.failed == ["clip (toy) grew", "children (toy) grew"]
    assert report.figures["soak toy, clip"].value == pytest.approx(1.06)


def test_what_became_worse_is_named(tmp_path: Path) -> None:
    before = {"a": milliseconds(10), "b": share(0.9), "c": milliseconds(10), "d": share(1)}
    write_figures(tmp_path / "old.json", before, {"date": "2026-11-29"})
    now = {"a": milliseconds(12), "b": share(0.7), "c": milliseconds(10.5), "e": share(1)}
    table, worse = compare_figures(now, read_figures(tmp_path / "old.json"))
    assert worse == ["a", "b"]
    assert table.splitlines()[2:] == [
        "| a | 10 ms | 12 ms | worse |",
        "| b | 0.9 | 0.7 | worse |",
        "| c | 10 ms | 10.5 ms |  |",
    ]
    assert milliseconds(8).worse_by(milliseconds(10)) == pytest.approx(-0.2)
    assert BenchFigure(0.0, "", "less").worse_by(share(0.0)) == 0


def test_a_file_that_holds_no_figures_is_named(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text('{"figures": [1]}')
    with pytest.raises(Misconfigured, match=r"old\.json is not what"):
        read_figures(path)


def test_the_strips_of_the_object_are_the_whole_of_it() -> None:
    footage = scale_sample_footage((64, 96))
    strips = footage.masks(3)
    assert strips.shape == (3, 64, 96)
    assert (strips.any(axis=(1, 2))).all()
    assert (strips.sum(axis=0) == footage.mask).all()
    assert footage.frames.dtype == np.uint8


@pytest.mark.anyio
async def test_a_steady_session_goes_on_with_one_bank(toy_folder: Path) -> None:
    async with embedded_engine(toy_folder, "toy", threads=1) as engine:
        session = SteadySession(
            engine, scale_sample_footage((64, 96)), objects=2, clip_length=3, memory_size=4
        )
        await session.fill()
        assert session.next_frame == 1 + 3 * (4 + 2)
        assert await session.clip_ms() > 0


def test_the_machine_is_named() -> None:
    assert processor()
    assert read_resident_mb(os.getpid()) > 10


def test_a_process_and_its_children_are_told() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in list(descendants(os.getpid()))
        assert held(child.pid).children == 0
        assert held(os.getpid()).rss_mb == pytest.approx(read_resident_mb(os.getpid()), rel=0.2)
        assert cpu_s(os.getpid()) > 0
    finally:
        child.communicate()
    assert child.pid not in list(descendants(os.getpid()))


def test_what_compares_checkouts_finds_what_it_times() -> None:
    imports = ENGINE.partition("async def main")[0]
    exec(compile(imports, "ENGINE", "exec"), {})
