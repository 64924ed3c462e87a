"""Every network that is built by name keeps the promises of the interface.

B sessions, L frames, O objects, N entries, H and W the size.
"""

import pytest
import torch
from torch import Tensor

from model.networks.base import Bank, Tensors, TrackingNetwork
from model.networks.registry import build_network

SMALL = ("tamvt-mobile", "stm-mobile", "qmvos-mobile", "stma-mobile")
SIZE = (64, 96)


@pytest.fixture(scope="module", params=SMALL)
def network(request: pytest.FixtureRequest) -> TrackingNetwork:
    torch.manual_seed(0)
    return build_network(request.param).eval()


def make_masks(objects: int) -> Tensor:
    """Masks (1, O, H, W) of strips beside each other."""
    masks = torch.zeros(1, objects, *SIZE)
    for number in range(objects):
        masks[0, number, 8:56, 12 * number : 12 * number + 10] = 1
    return masks


@torch.inference_mode()
def segment(network: TrackingNetwork, masks: Tensor, valid: Tensor | None = None) -> Tensor:
    """Logits (1, 1, O, h, w) of a frame after two entries with the same masks."""
    frames = torch.randint(0, 256, (3, *SIZE, 3), generator=torch.Generator().manual_seed(1))
    entries: list[Tensors] = []
    state: Tensors | None = None
    for frame in frames[:2]:
        seen = network.encode_frames(network.normalize(frame[None]))
        entry, state = network.memorize(seen, masks, state)
        entries.append(entry)
    bank = Bank.of_entries(entries, state)
    seen = network.encode_frames(network.normalize(frames[2:]))
    return network.segment(seen, Bank(bank.tensors, bank.age, None, valid, bank.state)).logits[-1]


def test_an_entry_is_as_it_is_described(network: TrackingNetwork) -> None:
    frame = torch.zeros(1, *SIZE, 3, dtype=torch.uint8)
    made = network.memorize(network.encode_frames(network.normalize(frame)), make_masks(2))
    for tensors, described in (
        (made.entry, network.bank_tensors),
        (made.state, network.state_tensors),
    ):
        shapes = {name: tuple(tensor.shape[1:]) for name, tensor in tensors.items()}
        assert shapes == {part.name: part.slot_shape(SIZE, objects=2) for part in described}


def test_slots_without_an_object_change_nothing(network: TrackingNetwork) -> None:
    alone = segment(network, make_masks(2))
    masks = torch.cat((make_masks(2), torch.zeros(1, 2, *SIZE)), dim=1)
    valid = torch.tensor([True, True, False, False])[None, :, None].expand(-1, -1, 2)
    among = segment(network, masks, valid)
    assert torch.allclose(among[:, :, :2], alone, atol=2e-4)
    assert torch.isfinite(among).all()


# An STMA-style network's slots have names: tests/model/networks/stma.
@pytest.mark.parametrize("network", SMALL[:3], indirect=True)
def test_objects_may_change_places(network: TrackingNetwork) -> None:
    masks = make_masks(3)
    order = torch.tensor([2, 0, 1])
    assert torch.allclose(
        segment(network, masks[:, order]), segment(network, masks)[:, :, order], atol=2e-4
    )
