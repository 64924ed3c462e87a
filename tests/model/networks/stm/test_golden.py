"""STM computes what the published code computes, number by number.

L frames, O objects, h and w the size at stride 4. Frame 0 enters the memory with its hard mask,
every other one with its soft masks; the entry of frame t - 1 is read by t, and kept if t - 1 is a
multiple of 5.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from model.networks.backbones import FrozenBatchNorm
from model.networks.base import Bank, NetworkError, Tensors, count_parameters
from model.networks.registry import build_network
from model.networks.stm.memory_read import read_memory
from model.networks.stm.model import Stm
from tests.model.networks.published_rule import Golden, make_checkpoint, read_golden

EVERY = 5


@dataclass
class Run:
    """What our model says of a golden video."""

    logits: list[Tensor] = field(default_factory=list)  # aggregated, background first (O + 1, H, W)
    channels: list[Tensor] = field(default_factory=list)  # of the decoder, (O, 2, h, w)
    frames: list[list[int]] = field(default_factory=list)  # entries that were read
    readouts: list[Tensor] = field(default_factory=list)  # (O, V, T)
    entries: dict[int, Tensors] = field(default_factory=dict)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("stm")


@pytest.fixture(scope="module")
def stm() -> Stm:
    network = build_network("stm-r50")
    assert isinstance(network, Stm)
    network.load_state_dict(network.rename_published(make_checkpoint("stm")))
    return network.eval()


@pytest.fixture(scope="module")
def run(stm: Stm, golden: Golden) -> Run:
    return follow(stm, golden["video"], golden["reference_mask"])


@torch.inference_mode()
def follow(stm: Stm, video: NDArray[np.uint8], reference: NDArray[np.uint8]) -> Run:
    """Follow two objects through a video as the published loop does."""
    height, width = reference.shape
    padding = [side for size in (width, height) for side in halves(-size % 16)]
    run, given = Run(), torch.from_numpy(reference)
    soft = torch.stack([given == 1, given == 2]).float()[None]
    frames = functional.pad(torch.from_numpy(video).permute(0, 3, 1, 2), padding)
    for t, frame in enumerate(frames):
        seen = stm.encode_frames(stm.normalize(frame.permute(1, 2, 0)[None]))
        if t:
            read = [*range(0, t - 1, EVERY), t - 1]
            bank = Bank.of_entries([run.entries[number] for number in read])
            run.frames.append(read)
            query = seen.key.flatten(2).transpose(1, 2)[:, None]
            run.readouts.append(read_memory(query, bank)[0, 0].transpose(1, 2))
            run.channels.append(stm.decode(seen, bank)[0, 0])
            coarse = stm.segment(seen, bank).logits[-1][0]
            full = functional.interpolate(coarse, scale_factor=4, mode="bilinear")
            full = crop(full, padding)[:, :, :height, :width]
            run.logits.append(aggregate(full[0].sigmoid()))
            soft = run.logits[-1].softmax(dim=0)[None, 1:]
        run.entries[t] = stm.memorize(seen, functional.pad(soft, padding)).entry
    return run


def aggregate(soft: Tensor) -> Tensor:
    """Soft aggregation of probabilities (O, H, W), background first (STM, eq. 4)."""
    every = torch.cat(((1 - soft).prod(dim=0, keepdim=True), soft)).clamp(1e-7, 1 - 1e-7)
    return torch.log(every / (1 - every))


def halves(extra: int) -> tuple[int, int]:
    return extra // 2, extra - extra // 2


def crop(maps: Tensor, padding: list[int]) -> Tensor:
    return maps[:, :, padding[2] :, padding[0] :]


def largest(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    return float((ours - torch.from_numpy(theirs)).abs().max())


def test_the_decoder_says_the_same(run: Run, golden: Golden) -> None:
    assert largest(torch.stack(run.channels), golden["decoder_logits"]) < 1e-4


def test_aggregated_logits_are_the_same(run: Run, golden: Golden) -> None:
    assert largest(torch.stack(run.logits), golden["logits"]) < 2e-3


def test_the_same_entries_are_read(run: Run, golden: Golden) -> None:
    padded = [[*frames, -1, -1][:3] for frames in run.frames]
    assert np.array_equal(padded, golden["memory_frames"])


def test_an_entry_is_the_same(run: Run, golden: Golden) -> None:
    key, value = (run.entries[0][f"{name}_s16"][0].transpose(1, 2) for name in ("key", "value"))
    assert largest(key.unflatten(2, (6, 10)), golden["key"]) < 1e-4
    assert largest(value[:, ::4].unflatten(2, (6, 10)), golden["value"]) < 1e-4


@pytest.mark.parametrize("frame", [1, 11])
def test_the_same_is_read_from_memory(run: Run, golden: Golden, frame: int) -> None:
    ours = run.readouts[frame - 1][:, ::4].unflatten(2, (6, 10))
    assert largest(ours, golden[f"readout_{frame}"]) < 1e-4


def test_an_odd_size_is_padded_on_all_sides(stm: Stm, golden: Golden) -> None:
    odd = follow(stm, golden["odd_video"], golden["odd_reference_mask"])
    assert largest(torch.stack(odd.logits), golden["odd_logits"]) < 2e-3


def test_the_loss_of_the_paper_is_the_same(golden: Golden) -> None:
    logits = torch.from_numpy(golden["logits"][:3])
    target = torch.from_numpy(golden["loss_target"]).long()
    loss = functional.cross_entropy(logits, target, reduction="none").mean(dim=(1, 2))
    assert loss.numpy() == pytest.approx(golden["loss_ce"], rel=1e-5)
    assert float(loss.mean()) == pytest.approx(float(golden["loss_total"]), rel=1e-5)


def test_it_has_the_published_number_of_parameters(stm: Stm) -> None:
    norms = [module for module in stm.modules() if isinstance(module, FrozenBatchNorm)]
    affine = sum(norm.weight.numel() + norm.bias.numel() for norm in norms)
    assert count_parameters(stm) + affine == 38_925_570


def test_a_key_that_is_not_the_authors_is_named(stm: Stm) -> None:
    checkpoint = make_checkpoint("stm") | {"Decoder.more.weight": torch.zeros(1)}
    with pytest.raises(NetworkError, match=r"Decoder\.more\.weight"):
        stm.rename_published(checkpoint)


def test_the_authors_prefix_is_taken_off(stm: Stm) -> None:
    checkpoint = {f"module.{key}": value for key, value in make_checkpoint("stm").items()}
    assert stm.rename_published(checkpoint).keys() == stm.state_dict().keys()
