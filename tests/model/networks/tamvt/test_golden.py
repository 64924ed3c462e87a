"""The model computes what the published TAM-VT computes, number by number.

B sessions, L frames of a clip, N entries, O objects, h and w the size at stride 4.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.core.memory import Memory
from model.networks.base import Bank, Tensors, count_parameters, soft_masks, take_frames
from model.networks.tamvt.builds import TAMVT_R50
from model.networks.tamvt.model import TamVT
from model.training.losses import paper_loss

Golden = dict[str, NDArray[Any]]
CLIPS, LENGTH, CAPACITY = 12, 2, 9


@dataclass(frozen=True)
class Run:
    """What our model says of the golden video."""

    logits: NDArray[np.float32]  # (24, h, w)
    memory_masks: NDArray[np.float32]  # (12, H, W)
    memory_frames: list[list[int]]  # entry numbers after each clip


@pytest.fixture(scope="module")
def run(published_model: TamVT, golden: Golden) -> Run:
    with torch.inference_mode():
        return follow(published_model, golden)


def follow(model: TamVT, golden: Golden) -> Run:
    """Twelve clips of the golden video in fp32; the memory rules decide which entries stay."""
    video = torch.from_numpy(golden["video"])
    reference = torch.from_numpy(golden["reference_mask"]).float()[None, None]
    size = (reference.shape[-2], reference.shape[-1])
    entries = {0: model.memorize(model.encode_frames(model.normalize(video[:1])), reference).entry}
    memory = Memory.start(0, [1], capacity=CAPACITY)
    logits, masks, numbers = [], [], []
    for clip in range(1, CLIPS + 1):
        first = 1 + LENGTH * (clip - 1)
        seen = model.encode_frames(model.normalize(video[first : first + LENGTH]))
        logits.append(model.segment(seen, bank_of(memory, entries)).logits[-1])
        soft = soft_masks(logits[-1], size)[:, -1]  # (B, O, H, W)
        memory = memory.remember(clip, [1])
        entries[clip] = model.memorize(take_frames(seen, slice(-1, None)), soft).entry
        masks.append(soft)
        numbers.append([entry.frame for entry in memory.entries])
    return Run(torch.cat(logits, dim=1)[0, :, 0].numpy(), torch.cat(masks)[:, 0].numpy(), numbers)


def bank_of(memory: Memory, entries: dict[int, Tensors]) -> Bank:
    """The bank in slot order, of its filled slots.

    A new entry takes the slot of the one it evicts, so the newest may sit between older ones.
    """
    slots = sorted(memory.entries, key=lambda entry: entry.slot)
    kept = [entries[entry.frame] for entry in slots]
    tensors = {name: torch.stack([entry[name] for entry in kept], dim=1) for name in kept[0]}
    return Bank(tensors, torch.from_numpy(memory.ages())[None, : len(kept)])


def test_the_paper_s_model_has_exactly_its_parameters(published_model: TamVT) -> None:
    assert count_parameters(published_model) == 39_163_117
    assert TAMVT_R50.time_rows == CAPACITY


def test_logits_are_those_of_the_published_code(run: Run, golden: Golden) -> None:
    assert np.abs(run.logits - golden["logits"]).max() < 2e-4


def test_what_enters_the_memory_is_what_the_published_code_wrote(run: Run, golden: Golden) -> None:
    assert np.abs(run.memory_masks - golden["memory_masks"]).max() < 1e-4


def test_the_same_entries_are_remembered_after_each_clip(run: Run, golden: Golden) -> None:
    expected = [[int(n) for n in row if n >= 0] for row in golden["memory_frames"]]
    assert run.memory_frames == expected


def test_losses_are_those_of_the_published_code(golden: Golden) -> None:
    layers = torch.from_numpy(golden["loss_logits"])[:, None]  # (6, B, F, h, w)
    target = torch.from_numpy(golden["loss_target"]).float()[None]
    loss = paper_loss(list(layers.roll(1, dims=0)), target)  # theirs: the last layer first
    assert np.abs(loss.focal.numpy() - golden["loss_focal"]).max() < 1e-5
    assert np.abs(loss.dice.numpy() - golden["loss_dice"]).max() < 1e-5
    assert loss.total.item() == pytest.approx(golden["loss_total"].item(), rel=1e-5)
