"""Banks, their cache and the turns that sessions wait for."""

from __future__ import annotations

import numpy as np
import pytest

from model.core.memory import Memory
from service.engines.bank import BankCache, EmbeddedBank, count_bank_bytes
from service.errors import Overloaded
from tests.support.scenes import SIZE
from tests.support.toy_model import SPEC

MEMORY = Memory.start(0, [1], capacity=4)


def bank(*, version: int = 1, memory: Memory = MEMORY) -> EmbeddedBank:
    made = EmbeddedBank(SPEC, SIZE, memory, [1])
    made.version = version
    return made


ONE = count_bank_bytes(SPEC, SIZE, MEMORY, [1])


def put(cache: BankCache[EmbeddedBank], session_id: str, made: EmbeddedBank) -> None:
    """As a lease does: reserve, then release and keep."""
    cache.reserve(made.nbytes)
    cache.release(made.nbytes)
    cache.keep(session_id, made)


def test_only_the_slots_in_use_reach_the_model() -> None:
    made = bank(memory=MEMORY.remember(2, [1]))
    inputs = made.inputs()
    assert inputs["key_s32"].shape == (1, 2, 6, 3)
    assert inputs["value_s32"].shape == (1, 2, 1, 6, 4)
    assert inputs["age"].tolist() == [[1, 0]]
    assert inputs["entry_valid"].tolist() == [[[True, True]]]


def test_the_slots_in_use_are_not_copied() -> None:
    made = bank()
    seen = made.inputs()["key_s32"]
    made.write(0, {"key_s32": np.ones((6, 3)), "value_s32": np.ones((1, 6, 4))})
    assert seen.min() == 1


def test_a_bank_takes_what_was_announced() -> None:
    assert bank().nbytes == ONE == 4 * 2 * (6 * 3 + 6 * 4)


def test_a_bank_of_another_version_or_memory_is_a_miss() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=10 * ONE)
    put(cache, "a", bank(version=3))
    assert cache.take("a", version=2, memory=MEMORY) is None
    assert cache.take("a", version=3, memory=MEMORY.remember(1, [1])) is None
    assert cache.take("b", version=3, memory=MEMORY) is None
    assert cache.take("a", version=3, memory=MEMORY) is not None


def test_a_bank_is_taken_only_once() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=10 * ONE)
    put(cache, "a", bank())
    assert cache.take("a", version=1, memory=MEMORY) is not None
    assert cache.take("a", version=1, memory=MEMORY) is None


def test_the_least_recently_used_bank_goes_first() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=2 * ONE)
    for session_id in ("a", "b"):
        put(cache, session_id, bank())
    used = cache.take("a", version=1, memory=MEMORY)
    assert used is not None
    cache.release(used.nbytes)
    cache.keep("a", used)
    put(cache, "c", bank())
    assert cache.take("b", version=1, memory=MEMORY) is None
    assert cache.take("a", version=1, memory=MEMORY) is not None


def test_the_cache_never_exceeds_its_bytes() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=3 * ONE + 1)
    for number in range(20):
        put(cache, f"{number % 7}", bank(version=number))
        assert cache.nbytes <= 3 * ONE + 1


def test_banks_on_lease_are_not_dropped_for_others() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=2 * ONE)
    cache.reserve(ONE)
    cache.reserve(ONE)
    with pytest.raises(Overloaded):
        cache.reserve(ONE)
    cache.release(ONE)
    cache.reserve(ONE)


def test_banks_on_lease_are_many_beyond_half_of_all() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=4 * ONE)
    put(cache, "kept", bank())
    cache.reserve(ONE)
    cache.reserve(ONE)
    assert not cache.is_half_leased
    cache.reserve(ONE)
    assert cache.is_half_leased
    cache.release(ONE)
    assert not cache.is_half_leased


def test_a_bank_too_large_to_keep_works_alone() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=ONE - 1)
    put(cache, "a", bank())
    assert cache.nbytes == 0
    cache.reserve(ONE)
    with pytest.raises(Overloaded):
        cache.reserve(1)


def test_a_dropped_bank_gives_its_bytes_back() -> None:
    cache = BankCache[EmbeddedBank](limit_bytes=10 * ONE)
    put(cache, "a", bank())
    cache.drop("a")
    cache.drop("a")
    assert cache.nbytes == 0
