"""What an STMA-style network promises, having no published numbers to agree with.

B sessions, O objects, S slots, H and W the size.
"""

import copy

import pytest
import torch
from torch import Tensor

from model.networks.base import Bank, Remembered
from model.networks.registry import build_network
from model.networks.stma.model import StmaStyle

SIZE = (64, 96)


@pytest.fixture(scope="module")
def stma() -> StmaStyle:
    torch.manual_seed(0)
    network = build_network("stma-mobile")
    assert isinstance(network, StmaStyle)
    return network.eval()


def make_frames(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randint(0, 256, (count, *SIZE, 3), generator=generator, dtype=torch.uint8)


def make_masks() -> Tensor:
    """Masks (1, 3, H, W) of strips beside each other."""
    masks = torch.zeros(1, 3, *SIZE)
    for number in range(3):
        masks[0, number, 8:56, 32 * number : 32 * number + 20] = 1
    return masks


@torch.inference_mode()
def remember(network: StmaStyle, frame: Tensor, masks: Tensor) -> Remembered:
    return network.memorize(network.encode_frames(network.normalize(frame[None])), masks)


@torch.inference_mode()
def segment(network: StmaStyle, masks: Tensor) -> Tensor:
    """Logits (1, 1, O, h, w) of a frame after two entries with the same masks."""
    frames = make_frames(3)
    bank = Bank.of_entries([remember(network, frame, masks).entry for frame in frames[:2]])
    seen = network.encode_frames(network.normalize(frames[2:]))
    return network.segment(seen, bank).logits[-1]


def test_objects_may_change_places_with_their_slots(stma: StmaStyle) -> None:
    order = [2, 0, 1]
    moved = copy.deepcopy(stma)
    slots = [*order, *range(3, stma.config.slots)]
    channels = [0, *(slot + 1 for slot in slots)]
    moved.slot.data = stma.slot.data[slots]
    moved.embed_ids.weight.data = stma.embed_ids.weight.data[:, channels]
    for layer in ("predict", "coarse"):
        for name in ("weight", "bias"):
            path = f"decoder.{layer}.{name}"
            moved.get_parameter(path).data = stma.get_parameter(path)[channels]
    there = segment(moved, make_masks()[:, order])
    assert torch.allclose(there, segment(stma, make_masks())[:, :, order], atol=1e-4)


@torch.inference_mode()
def test_an_id_is_as_large_as_what_it_is_added_to(stma: StmaStyle) -> None:
    full = torch.zeros(1, stma.config.slots + 1, 16, 16)
    full[:, 1] = 1
    assert 0.5 < (stma.embed_ids(full) - stma.embed_ids(0 * full)).std() < 2


@torch.inference_mode()
def test_what_was_read_of_ids_tells_the_slots_by_itself(stma: StmaStyle) -> None:
    """Without all that stands between: the lower way into the logits."""
    decoder = copy.deepcopy(stma.decoder)
    for parameter in decoder.predict.parameters():
        parameter.zero_()
    ids = torch.randn(1, stma.config.id_channels, 2, 2)
    test = torch.randn(1, stma.config.hidden, 2, 2)
    middle, fine = stma.decoder.skip_s8.in_channels, stma.decoder.skip_s4.in_channels
    skips = torch.randn(1, middle, 4, 4), torch.randn(1, fine, 8, 8)
    logits = decoder(test, ids, skips)
    torch.testing.assert_close(logits[..., :1, :1], decoder.coarse(ids)[..., :1, :1])


def test_an_object_that_is_absent_changes_nothing_in_an_entry(stma: StmaStyle) -> None:
    masks = make_masks()
    masks[:, 2] = 0
    (frame,) = make_frames(1)
    with_it, without = (remember(stma, frame, each).entry for each in (masks, masks[:, :2]))
    for name, tensor in without.items():
        other = with_it[name][:, :2] if name.startswith("object") else with_it[name]
        assert torch.allclose(tensor, other, atol=1e-5), name
    assert not with_it["object_value"][:, 2].any()


def test_nobody_looks_at_an_object_that_is_absent(stma: StmaStyle) -> None:
    masks = make_masks()
    masks[:, 2] = 0
    with_it, without = segment(stma, masks), segment(stma, masks[:, :2])
    assert torch.allclose(with_it[:, :, :2], without, atol=1e-5)


def test_an_entry_does_not_depend_on_the_others(stma: StmaStyle) -> None:
    frames, masks = make_frames(2), make_masks()
    with torch.inference_mode():
        seen = stma.encode_frames(stma.normalize(frames))
        both = stma.memorize(seen, masks.expand(2, -1, -1, -1)).entry
    for row, frame in enumerate(frames):
        for name, tensor in remember(stma, frame, masks).entry.items():
            assert torch.allclose(both[name][row : row + 1], tensor, atol=1e-4), name


def test_probabilities_add_up_to_one_at_most(stma: StmaStyle) -> None:
    logits = segment(stma, make_masks())
    soft = stma.soften(logits, torch.tensor([[True, True, False]]))
    assert float(soft.sum(dim=2).max()) <= 1 + 1e-6
    assert not soft[:, :, 2].any()
