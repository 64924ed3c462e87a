"""QMVOS computes what the published code computes, number by number, with its five mends.

O objects, T tokens, h and w the size at stride 4. Frame 0 is remembered, then every frame that is 5
or more after the last remembered one, and every frame with given masks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.networks.backbones import FrozenBatchNorm
from model.networks.base import LEAST, Bank, NetworkError, Tensors, count_parameters
from model.networks.qmvos.memory_read import read_memory
from model.networks.qmvos.model import Qmvos, QmvosFeatures, to_tokens
from model.networks.qmvos.queries import SAMPLED, label_pixels
from model.networks.registry import build_network
from model.training.bootstrapped_loss import bootstrapped_loss
from tests.model.networks.published_rule import Golden, make_checkpoint, read_golden

EVERY = 5
Given = Mapping[int, Tensor]  # hard masks (O, H, W) of new objects, by frame


@dataclass
class Run:
    """What our model says of a golden video."""

    object_logits: list[Tensor] = field(default_factory=list)  # (O, h, w)
    logits: list[Tensor] = field(default_factory=list)  # aggregated, background first (O + 1, H, W)
    soft: list[Tensor] = field(default_factory=list)  # (O, H, W), as remembered
    queries: list[Tensor] = field(default_factory=list)  # (O, Q)
    hidden: list[Tensor] = field(default_factory=list)  # (O, T, D)
    areas: list[list[int]] = field(default_factory=list)
    frames: list[list[int]] = field(default_factory=list)  # entries that were read
    entries: dict[int, Tensors] = field(default_factory=dict)
    seen: list[QmvosFeatures] = field(default_factory=list)
    readouts: list[Tensor] = field(default_factory=list)  # (O, V, T)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("qmvos")


@pytest.fixture(scope="module")
def qmvos() -> Qmvos:
    network = build_network("qmvos-r50")
    assert isinstance(network, Qmvos)
    network.load_state_dict(network.rename_published(make_checkpoint("qmvos")))
    return network.eval()


@pytest.fixture(scope="module")
def run(qmvos: Qmvos, golden: Golden) -> Run:
    return follow(qmvos, golden["video"], golden["reference_mask"])


@pytest.fixture(scope="module")
def late(qmvos: Qmvos, golden: Golden) -> Run:
    given = {4: torch.from_numpy(golden["late_mask"]).float()[None]}
    return follow(qmvos, golden["video"][:11], golden["reference_mask"], given)


@torch.inference_mode()
def follow(
    qmvos: Qmvos,
    video: NDArray[np.uint8],
    reference: NDArray[np.uint8],
    given: Given | None = None,
) -> Run:
    """Follow two objects, and those that are given later, as the published loop does."""
    height, width = reference.shape
    padding = [side for size in (width, height) for side in halves(-size % 16)]
    run, labels = Run(), torch.from_numpy(reference)
    soft = functional.pad(torch.stack([labels == 1, labels == 2]).float()[None], padding)
    state: Tensors | None = None
    for t, frame in enumerate(torch.from_numpy(video)):
        seen = qmvos.encode_frames(functional.pad(qmvos.normalize(frame[None]), padding))
        run.seen.append(seen)
        after = state
        if state is not None:
            bank = fill_bank(run.entries, state)
            run.frames.append(list(run.entries))
            run.readouts.append(read(qmvos, seen, bank))
            segmented = qmvos.segment(seen, bank)
            run.object_logits.append(segmented.logits[-1][0, 0])
            full = functional.interpolate(segmented.logits[-1][0], scale_factor=4, mode="bilinear")
            aggregated = aggregate(full[0].sigmoid())
            run.logits.append(aggregated[:, padding[2] :, padding[0] :][:, :height, :width])
            soft, after = aggregated.softmax(dim=0)[None, 1:], segmented.state
        new = (given or {}).get(t)
        if new is not None and state is not None:
            soft, state = merge(soft, functional.pad(new, padding)), widen(state, len(new))
        if t == 0 or new is not None or t - max(run.entries) >= EVERY:
            run.entries[t], after = qmvos.memorize(seen, soft, state)
        assert after is not None
        state = after
        run.soft.append(soft[0])
        run.queries.append(state["query"][0, :, 0])
        run.hidden.append(state["hidden_s16"][0])
        sampled = label_pixels(soft)[0, :, ::SAMPLED, ::SAMPLED]
        run.areas.append([int(area) for area in sampled.sum(dim=(1, 2))])
    return run


def fill_bank(entries: dict[int, Tensors], state: Tensors) -> Bank:
    """A bank whose early entries do not know the objects that came later."""
    objects = state["query"].shape[1]
    known = [entry["value_s16"].shape[1] for entry in entries.values()]
    padded = [
        entry | {"value_s16": functional.pad(entry["value_s16"], (0, 0, 0, 0, 0, objects - count))}
        for entry, count in zip(entries.values(), known, strict=True)
    ]
    bank = Bank.of_entries(padded, state)
    valid = torch.tensor([[number < count for count in known] for number in range(objects)])
    return Bank(bank.tensors, bank.age, None, valid[None], state)


def read(qmvos: Qmvos, seen: QmvosFeatures, bank: Bank) -> Tensor:
    """What a frame reads from memory, (O, V, T)."""
    query, selection = to_tokens(seen.key), to_tokens(seen.selection)
    return read_memory(query, selection, bank, qmvos.config.top_k)[0].transpose(1, 2)


def aggregate(soft: Tensor) -> Tensor:
    """Soft aggregation of probabilities (O, H, W), background first (STM, eq. 4)."""
    every = torch.cat(((1 - soft).prod(dim=0, keepdim=True), soft)).clamp(LEAST, 1 - LEAST)
    return torch.log(every / (1 - every))


def merge(soft: Tensor, new: Tensor) -> Tensor:
    """Masks (1, O, H, W) with given ones (P, H, W): where these are, no other object is."""
    kept = soft[0] * (new.sum(dim=0) <= 0.5)
    return aggregate(torch.cat((kept, new))).softmax(dim=0)[None, 1:]


def widen(state: Tensors, objects: int) -> Tensors:
    return {
        name: functional.pad(tensor, (0, 0, 0, 0, 0, objects)) for name, tensor in state.items()
    }


def halves(extra: int) -> tuple[int, int]:
    return extra // 2, extra - extra // 2


def largest(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    return float((ours - torch.from_numpy(theirs)).abs().max())


def as_map(tokens: Tensor) -> Tensor:
    """Maps (..., C, 6, 10) of tokens (..., T, C)."""
    return tokens.transpose(-1, -2).unflatten(-1, (6, 10))


def test_object_logits_are_the_same(run: Run, golden: Golden) -> None:
    assert largest(torch.stack(run.object_logits), golden["object_logits"]) < 1e-3


def test_aggregated_logits_are_the_same(run: Run, golden: Golden) -> None:
    assert largest(torch.stack(run.logits), golden["logits"]) < 1e-3


def test_the_hidden_state_is_the_same(run: Run, golden: Golden) -> None:
    assert largest(as_map(torch.stack(run.hidden)), golden["hidden"]) < 1e-3


def test_queries_are_the_same(run: Run, golden: Golden) -> None:
    assert largest(torch.stack(run.queries), golden["queries"]) < 1e-4
    assert np.array_equal(run.areas, golden["query_area"])


def test_the_same_entries_are_read(run: Run, golden: Golden) -> None:
    padded = [[*frames, -1, -1][:3] for frames in run.frames]
    assert np.array_equal(padded, golden["memory_frames"])


def test_an_entry_is_the_same(run: Run, golden: Golden) -> None:
    entry = run.entries[0]
    assert largest(as_map(entry["key_s16"][0]), golden["key"]) < 1e-3
    assert largest(as_map(entry["shrinkage_s16"][0])[0], golden["shrinkage"]) < 1e-3
    assert largest(as_map(entry["value_s16"][0])[:, ::4], golden["value"]) < 1e-3


def test_a_frame_asks_the_same(run: Run, golden: Golden) -> None:
    seen = run.seen[1]
    assert largest(seen.f16[0, ::8], golden["f16"]) < 1e-3
    assert largest(seen.key[0], golden["query_key"]) < 1e-3
    assert largest(seen.selection[0], golden["selection"]) < 1e-3
    assert largest(run.readouts[0][:, ::4].unflatten(2, (6, 10)), golden["readout_1"]) < 1e-3


def test_an_odd_size_is_padded_on_all_sides(qmvos: Qmvos, golden: Golden) -> None:
    odd = follow(qmvos, golden["odd_video"], golden["odd_reference_mask"])
    assert largest(torch.stack(odd.object_logits), golden["odd_object_logits"]) < 1e-3
    assert largest(odd.logits[0], golden["odd_logits_1"]) < 1e-3


def test_an_object_that_comes_later_is_followed_the_same(late: Run, golden: Golden) -> None:
    for ours, theirs in zip(late.object_logits, golden["late_object_logits"], strict=True):
        assert largest(ours, theirs[: len(ours)]) < 1e-3
    for ours, theirs in zip(late.queries, golden["late_queries"], strict=True):
        assert largest(ours, theirs[: len(ours)]) < 1e-4
    assert largest(late.soft[4], golden["late_soft_masks"]) < 1e-3
    assert largest(as_map(late.hidden[-1]), golden["late_hidden"]) < 1e-3
    areas = [[*areas, 0][:3] for areas in late.areas]
    assert np.array_equal(areas, golden["late_query_area"])
    padded = [[*frames, -1, -1][:3] for frames in late.frames]
    assert np.array_equal(padded, golden["late_memory_frames"])


def test_the_loss_is_the_same(golden: Golden) -> None:
    logits, target = torch.from_numpy(golden["logits"][:3]), golden["loss_target"]
    for row, step in enumerate(golden["loss_iterations"]):
        entropy, dice = bootstrapped_loss(logits, torch.from_numpy(target).long(), step=int(step))
        assert entropy.numpy() == pytest.approx(golden["loss_ce"][row], rel=1e-5)
        assert dice.numpy() == pytest.approx(golden["loss_dice"], rel=1e-5)
        total = float((entropy + dice).sum())
        assert total == pytest.approx(float(golden["loss_total"][row]), rel=1e-5)


def test_it_has_the_published_number_of_parameters(qmvos: Qmvos) -> None:
    norms = [module for module in qmvos.modules() if isinstance(module, FrozenBatchNorm)]
    affine = sum(norm.weight.numel() + norm.bias.numel() for norm in norms)
    assert count_parameters(qmvos) + affine == 64_683_015


def test_a_key_that_is_not_the_authors_is_named(qmvos: Qmvos) -> None:
    checkpoint = make_checkpoint("qmvos") | {"decoder.pred.weight": torch.zeros(1)}
    with pytest.raises(NetworkError, match=r"decoder\.pred\.weight"):
        qmvos.rename_published(checkpoint)
