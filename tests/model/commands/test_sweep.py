"""Other memories and clips than the graphs' own are measured once, in two tables."""

from pathlib import Path

import pytest

from model.__main__ import main
from model.evaluation.results import read_rows
from tests.support.toy_model import WEIGHTS, write_toy_model


@pytest.fixture
def words(drawn_data: Path, tmp_path: Path) -> list[str]:
    """A call of the command on the toy model and the drawn videos."""
    write_toy_model(tmp_path / "graphs")
    points = ["--graphs", str(tmp_path / "graphs"), "--data", str(drawn_data)]
    return ["sweep", "toy", *points, "--threads", "1", "-o", str(tmp_path / "out")]


SMALL = ("--memory-sizes", "1,12", "--clip-lengths", "1,2,4")  # the toy's own are 9 and 2


def points(folder: Path) -> list[tuple[str, str]]:
    """What was measured, (N, L) in order."""
    return [(row["memory_size"], row["clip_length"]) for row in read_rows(folder / "sweep.csv")]


def test_memory_size_and_clip_length_are_varied_one_at_a_time(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *SMALL]) == 0
    assert points(tmp_path / "out") == [("1", "2"), ("12", "2"), ("9", "1"), ("9", "2"), ("9", "4")]
    table = (tmp_path / "out" / "sweep.md").read_text()
    assert table in capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")] == [
        "| N", "| 1", "| 12", "| L", "| 1", "| 2", "| 4",
    ]  # fmt: skip


def test_what_is_measured_is_not_measured_again(words: list[str], tmp_path: Path) -> None:
    assert main([*words, "--memory-sizes", "1", "--clip-lengths", "1"]) == 0
    first = read_rows(tmp_path / "out" / "sweep.csv")
    assert main([*words, *SMALL]) == 0
    rows = read_rows(tmp_path / "out" / "sweep.csv")
    assert rows[:2] == first
    assert len(rows) == 5


def test_other_weights_are_measured_anew(words: list[str], tmp_path: Path) -> None:
    only = ("--memory-sizes", "1", "--clip-lengths", "")
    assert main([*words, *only]) == 0
    write_toy_model(tmp_path / "graphs", weights={**WEIGHTS, "tolerance": WEIGHTS["tolerance"] / 2})
    assert main([*words, *only]) == 0
    rows = read_rows(tmp_path / "out" / "sweep.csv")
    assert len({row["weights"] for row in rows}) == len(rows) == 2
    assert rows[1]["weights"] in (tmp_path / "out" / "sweep.md").read_text()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (("--memory-sizes", "0"), "not in 1..16"),
        (("--memory-sizes", "17"), "not in 1..16"),
        (("--clip-lengths", "0"), "not positive"),
        (("--graphs", "nowhere"), "no graphs of toy in nowhere"),
        (("--split", "val"), "val.txt"),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: list[str], more: tuple[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) == 2
    assert why in capsys.readouterr().err
