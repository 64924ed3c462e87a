"""A fixed small part of `make fuzz`: the same inputs in every run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from operator import methodcaller
from pathlib import Path

import pytest

from scripts.fuzz import fuzz_parser
from tests.faults.gateways import Gateway
from tests.fuzz.attacked import attacked_service
from tests.fuzz.calls import attack_rest, make_call
from tests.fuzz.openapi import attack_operations
from tests.fuzz.parsers import PARSERS, Fault, Parser, Tally, attack
from tests.fuzz.streams import attack_streams
from tests.fuzz.vitals import Vitals, check_growth, look, warm_up
from tests.fuzz.walks import Walk

SEED = 1
BY_NAME = {parser.name: parser for parser in PARSERS}


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One service for all attacks of this file."""
    with attacked_service(tmp_path_factory.mktemp("attacked")) as gateway:
        yield gateway


@pytest.mark.parametrize("name", BY_NAME)
def test_a_parser_reads_or_refuses_whatever_comes(name: str) -> None:
    tally = Tally(name)
    for number in range(150):
        attack(BY_NAME[name], SEED, tally, number)
    # Inputs that are all refused at the first byte would prove little.
    assert 0 < tally.refused < tally.inputs == 150


def test_an_input_follows_from_its_seed_and_number() -> None:
    for parser in PARSERS:
        assert parser.input(SEED, 3) == parser.input(SEED, 3), parser.name
    assert make_call(SEED, 3) == make_call(SEED, 3)
    assert make_call(SEED, 3) != make_call(SEED + 1, 3)


def test_what_a_parser_must_not_raise_is_a_fault_with_its_input() -> None:
    parser = Parser("broken", lambda random: random.randbytes(4), lambda data: data[9], (KeyError,))
    with pytest.raises(Fault, match="broken, input 2: IndexError") as raised:
        attack(parser, SEED, Tally("broken"), 2)
    assert raised.value.data == parser.input(SEED, 2)


def test_a_parser_that_ends_its_process_is_a_fault_and_its_input_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = Parser("broken", methodcaller("randbytes", 4), partial(sys.exit), (KeyError,))
    assert not fuzz_parser(parser, SEED, range(7, 9))
    assert (tmp_path / "runs/fuzz/broken-1-7").read_bytes() == parser.input(SEED, 7)


def test_a_parser_that_holds_prints_its_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert fuzz_parser(BY_NAME["box (JSON)"], SEED, range(20))
    assert capsys.readouterr().out.startswith("| box (JSON) | 20 | ")


def test_a_service_is_attacked_and_nothing_of_it_grows(attacked: Gateway) -> None:
    calls, streams, operations = Tally("REST"), Tally("streams"), Tally("OpenAPI")
    attack_rest(attacked.url, SEED, range(40), calls)
    attack_streams(attacked.url, SEED, range(5), streams)
    warm_up(attacked)
    before = look(attacked)
    attack_rest(attacked.url, SEED, range(40, 160), calls)
    attack_streams(attacked.url, SEED, range(5, 20), streams)
    attack_operations(attacked.url, SEED, 2, operations)
    check_growth(attacked, before)
    for tally in (calls, streams, operations):
        assert 0 < tally.refused < tally.inputs


def test_growth_of_each_kind_is_noticed() -> None:
    before = Vitals(rss_mb=100, descriptors=10, tasks=3, children=1)
    assert before.growth_since(before) == []
    grown = Vitals(rss_mb=151, descriptors=11, tasks=4, children=2)
    assert len(grown.growth_since(before)) == 4


def test_sessions_stay_what_was_said_of_them_through_any_steps(attacked: Gateway) -> None:
    walk = Walk(attacked, f"{SEED}", Tally("sessions"))
    for step in ("start", "append", "kill_within_append", "correct", "fork"):
        walk.take(step)
    walk.run(8)
