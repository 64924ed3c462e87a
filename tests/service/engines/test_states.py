"""A model's state as bytes: what is read is what was written, or nothing."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest

from model.core.contract import BankTensor, ModelSpec
from model.core.memory import Memory
from service.engines.bank import count_bank_bytes
from service.engines.states import ModelState, decode_state, encode_state, make_empty_state
from service.engines.triton.layout import Shape, lay_out
from tests.support.toy_model import SPEC

SIZE = (64, 96)
HIDDEN = BankTensor("hidden_s16", "float16", per_object=True, stride=16, channels=4)
QUERY = BankTensor("query", "float16", per_object=True, stride=0, channels=8)
STATEFUL = replace(SPEC, contract=2, capabilities=("state",), state=(HIDDEN, QUERY))


def made(objects: int) -> ModelState:
    random = np.random.default_rng(0)
    blank = make_empty_state(STATEFUL, SIZE, objects=objects)
    return {name: random.normal(size=each.shape).astype(each.dtype) for name, each in blank.items()}


def stored(objects: int, object_ids: tuple[int, ...]) -> bytes:
    return encode_state(made(objects), object_ids, weights_sha256=STATEFUL.weights_sha256)


def test_a_bank_counts_the_bytes_of_its_state() -> None:
    memory = Memory.start(0, [1, 2], capacity=4)
    with_state, without = (
        count_bank_bytes(spec, SIZE, memory, [1, 2]) for spec in (STATEFUL, SPEC)
    )
    assert with_state - without == sum(values.nbytes for values in made(2).values()) == 416
    shape = Shape(size=SIZE, slots=4, objects=2, frames=1)
    regions = [lay_out(spec, shape).nbytes for spec in (STATEFUL, SPEC)]
    assert regions[0] - regions[1] >= 2 * 416  # as it is taken, and as it comes out


def test_a_state_comes_back_bit_for_bit() -> None:
    found = decode_state(stored(2, (3, 9)), STATEFUL, SIZE, (3, 9))
    assert found is not None
    for name, values in made(2).items():
        assert found[name].dtype == values.dtype
        assert np.array_equal(found[name], values)


def test_rows_follow_their_objects_and_a_new_one_begins_at_zero() -> None:
    """Object 9 went, 1 and 5 came."""
    found, before = decode_state(stored(2, (3, 9)), STATEFUL, SIZE, (1, 3, 5)), made(2)
    assert found is not None
    for name, values in found.items():
        assert np.array_equal(values[1], before[name][0])
        assert not values[[0, 2]].any()


@pytest.mark.parametrize(
    ("spec", "size"),
    [
        (replace(STATEFUL, weights_sha256="1" * 64), SIZE),
        (replace(STATEFUL, state=(QUERY,)), SIZE),
        (replace(STATEFUL, state=(replace(HIDDEN, channels=2), QUERY)), SIZE),
        (replace(STATEFUL, state=(replace(HIDDEN, dtype="int16"), QUERY)), SIZE),
        (STATEFUL, (64, 128)),
    ],
    ids=["other weights", "fewer tensors", "other channels", "another type", "another size"],
)
def test_a_state_of_another_model_is_none(spec: ModelSpec, size: tuple[int, int]) -> None:
    assert decode_state(stored(1, (1,)), spec, size, (1,)) is None


@pytest.mark.parametrize("cut", [0, 1, 20, -1])
def test_a_state_that_was_cut_off_is_none(cut: int) -> None:
    assert decode_state(stored(1, (1,))[:cut], STATEFUL, SIZE, (1,)) is None


@pytest.mark.parametrize(
    "change", [lambda raw: raw + b"0", lambda raw: raw[:-1], lambda raw: raw[9:]]
)
def test_bytes_that_are_no_state_are_none(change: object) -> None:
    assert callable(change)
    raw = zlib.decompress(stored(1, (1,)))
    assert decode_state(zlib.compress(change(raw)), STATEFUL, SIZE, (1,)) is None


def test_a_state_that_unpacks_to_more_than_it_may_be_is_none() -> None:
    raw = zlib.decompress(stored(1, (1,))) + bytes(10**7)
    assert decode_state(zlib.compress(raw), STATEFUL, SIZE, (1,)) is None
