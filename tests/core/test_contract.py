"""The model contract: cards and digests."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from model.core.confidence import Calibration
from model.core.contract import (
    BankTensor,
    Buckets,
    ContractError,
    Measured,
    ModelSpec,
    memorize_inputs,
    memorize_outputs,
    segment_inputs,
    segment_outputs,
    weights_digest,
)
from model.core.memory import Retention

SPEC = ModelSpec(
    name="m",
    short_side=256,
    bank=(
        BankTensor("key_s32", "float16", per_object=False, stride=32, channels=128),
        BankTensor("value_s16", "float16", per_object=True, stride=16, channels=64),
    ),
    buckets=Buckets(((256, 448),), (1, 2), (9,), (1, 2, 4, 8, 16), (1, 8)),
    weights_sha256="a" * 64,
    weights_file_sha256="b" * 64,
)
STATEFUL = replace(
    SPEC,
    contract=2,
    capabilities=("aggregated", "state"),
    retention=Retention(every=5),
    state=(
        BankTensor("hidden_s16", "float16", per_object=True, stride=16, channels=32),
        BankTensor("query", "float16", per_object=True, stride=0, channels=64),
    ),
    entry_by="memorize",
)


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(SPEC.to_json()), **fields})


CALIBRATION = Calibration(
    bias=-2.8, sureness=2.6, wholeness=2.4, size=0.3, threshold=0.5, memory_gate=True
)


@pytest.mark.parametrize("calibration", [None, CALIBRATION])
def test_a_card_comes_back_as_it_was(calibration: Calibration | None) -> None:
    spec = replace(SPEC, calibration=calibration)
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_a_card_of_contract_2_comes_back_as_it_was() -> None:
    assert ModelSpec.from_json(STATEFUL.to_json()) == STATEFUL


def test_what_was_measured_comes_back_and_says_whether_a_model_is_experimental() -> None:
    """It is in no card of a model that was not measured: those stay as they were, byte for byte."""
    assert "measured" not in json.loads(SPEC.to_json())
    for dev_j, experimental in ((None, False), (59.9, True), (60.0, False)):
        measured = Measured(parity=1, agreement=0.9999, parameters=7, macs=9, dev_j=dev_j)
        spec = ModelSpec.from_json(replace(SPEC, measured=measured).to_json())
        assert (spec.measured, spec.experimental) == (measured, experimental)
    assert not SPEC.experimental


def test_a_card_of_contract_1_says_what_it_said_before() -> None:
    fields = json.loads(SPEC.to_json())
    assert fields["retention"] == {}
    assert fields.keys().isdisjoint({"state", "entry_by"})


def test_finer_sizes_come_back_and_a_card_without_them_says_nothing_of_them() -> None:
    fine = replace(SPEC, fine_short_sides=(384, 512), fine_below_px=12.0)
    assert ModelSpec.from_json(fine.to_json()) == fine
    assert "fine" not in SPEC.to_json()


@pytest.mark.parametrize("sides", [(512, 384), (384, 384), (256,), (128,)])
def test_finer_sizes_are_larger_and_in_order(sides: tuple[int, ...]) -> None:
    text = replace(SPEC, fine_short_sides=sides, fine_below_px=12.0).to_json()
    with pytest.raises(ContractError, match="short sides"):
        ModelSpec.from_json(text)


def test_a_card_of_an_earlier_exporter_is_not_calibrated() -> None:
    fields = json.loads(SPEC.to_json())
    del fields["calibration"]
    spec = ModelSpec.from_json(json.dumps(fields))
    assert (spec.calibration, spec.memory_gate, spec.lost_below) == (None, False, None)


def test_a_calibrated_card_tells_what_is_lost_and_remembered() -> None:
    spec = replace(SPEC, calibration=CALIBRATION)
    assert (spec.memory_gate, spec.lost_below) == (True, 0.5)


def test_fields_of_a_later_exporter_are_ignored() -> None:
    assert ModelSpec.from_json(changed(color="green")) == SPEC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        changed(contract=3),
        changed(capabilities=["aggregated"]),
        changed(retention={"every": 5}),
        changed(entry_by="memorize"),
        changed(contract=2, retention={"every": 0}),
        changed(contract=2, capabilities=["telepathy"]),
        changed(contract=2, capabilities=["state"]),
        changed(contract=2, entry_by="magic"),
        changed(contract=2, state=json.loads(STATEFUL.to_json())["state"]),
        changed(contract=2, capabilities=["state"], state=json.loads(SPEC.to_json())["bank"][:1]),
        changed(bank=[]),
        changed(bank=[{"name": "key"}]),
        changed(bank=json.loads(SPEC.to_json())["bank"][:1] * 2),
        changed(buckets={}),
        changed(buckets={"sizes": [[1]]}),
        changed(clip_length=9),
        changed(memory_size=0),
        changed(max_memory_size=17),
        changed(calibration={"bias": 1.0}),
        changed(calibration={**asdict(CALIBRATION), "threshold": 2.0}),
        changed(calibration="none"),
        changed(weights_sha256="short"),
        changed(weights_file_sha256="G" * 64),
    ],
)
def test_an_unfit_card_is_refused(text: str) -> None:
    with pytest.raises(ContractError):
        ModelSpec.from_json(text)


def test_a_stride_of_zero_is_one_token() -> None:
    token = BankTensor("query", "float16", True, 0, 64)
    assert token.slot_shape((480, 864), objects=3) == (3, 1, 64)


def test_a_slot_is_as_large_as_its_tensors() -> None:
    # 8 x 14 tokens of stride 32, 16 x 28 of stride 16, two bytes each.
    expected = 2 * (112 * 128 + 3 * 448 * 64)
    assert SPEC.slot_bytes((256, 448), objects=3) == expected


def test_a_size_that_is_no_multiple_of_the_stride_rounds_up() -> None:
    assert SPEC.bank[0].tokens((90, 150)) == 3 * 5


def test_the_tensors_of_the_graphs_follow_the_card() -> None:
    names = [tensor.name for tensor in segment_inputs(SPEC)]
    assert names == ["frames", "key_s32", "value_s16", "age", "entry_valid"]
    assert [(t.name, t.axes) for t in memorize_outputs(SPEC)] == [
        ("key_s32", "BTC"),
        ("value_s16", "BOTC"),
    ]
    names = [tensor.name for tensor in segment_outputs(SPEC)]
    assert names == ["masks", "confidence", "entry_key_s32", "entry_value_s16"]


def test_the_graphs_of_a_model_with_a_state_carry_it() -> None:
    names = [tensor.name for tensor in memorize_inputs(STATEFUL)]
    assert names == ["frame", "masks", "hidden_s16", "query"]
    names = [tensor.name for tensor in memorize_outputs(STATEFUL)]
    assert names == ["key_s32", "value_s16", "next_hidden_s16", "next_query"]
    names = [tensor.name for tensor in segment_inputs(STATEFUL)]
    assert names[3:] == ["hidden_s16", "query", "age", "entry_valid"]
    names = [tensor.name for tensor in segment_outputs(STATEFUL)]
    assert names == ["masks", "confidence", "next_hidden_s16", "next_query"]


def test_inputs_and_outputs_of_a_graph_never_share_a_name() -> None:
    inputs = {tensor.name for tensor in segment_inputs(SPEC)}
    assert inputs.isdisjoint(tensor.name for tensor in segment_outputs(SPEC))


def test_the_digest_of_weights_ignores_their_order() -> None:
    a, b = np.arange(3, dtype=np.float32), np.ones((2, 2), np.float32)
    assert weights_digest({"a": a, "b": b}) == weights_digest({"b": b, "a": a})


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros(4, np.float16)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.array([0, 0, 0, 1], np.float32)},
        {"a": np.zeros(4, np.float32), "b": np.zeros(0, np.float32)},
    ],
    ids=["name", "type", "shape", "value", "one more"],
)
def test_the_digest_of_weights_sees_every_difference(other: dict[str, Any]) -> None:
    assert weights_digest(other) != weights_digest({"a": np.zeros(4, np.float32)})


def test_the_digest_of_weights_does_not_see_the_memory_layout() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert weights_digest({"a": np.asfortranarray(values)}) == weights_digest({"a": values})


def test_a_scalar_keeps_its_shape_in_the_digest() -> None:
    scalar, vector = np.float32(1), np.ones(1, np.float32)
    assert weights_digest({"a": np.asarray(scalar)}) != weights_digest({"a": vector})


def test_cards_of_different_weights_differ() -> None:
    assert replace(SPEC, weights_sha256="c" * 64) != SPEC
