"""How a training of STM begins: with a memory that is read, and a mask that is seen."""

import pytest
import torch

from model.networks.backbones import build_backbone, load_public_weights
from model.networks.registry import build_network
from model.networks.stm.model import Stm


def begun() -> Stm:
    """A small STM whose trunks begin with the same weights, as public ones are."""
    torch.manual_seed(0)
    network = build_network("stm-mobile").eval()
    assert isinstance(network, Stm)
    public = build_backbone("mobilenet_v2").state_dict()
    for trunk in network.trunks:
        load_public_weights(trunk, public)
    return network


@torch.inference_mode()
def test_a_frame_finds_its_own_places_in_the_memory() -> None:
    network = begun()
    features = network.encode_frames(torch.randn(1, 3, 64, 64))
    entry, _ = network.memorize(features, torch.zeros(1, 1, 64, 64))
    torch.testing.assert_close(entry["key_s16"][:, 0], features.key.flatten(2).transpose(1, 2))


@torch.inference_mode()
def test_the_mask_is_seen_from_the_first_step_on() -> None:
    network = begun()
    features = network.encode_frames(torch.randn(1, 3, 64, 64))
    masks = torch.zeros(1, 1, 64, 64)
    empty, _ = network.memorize(features, masks)
    masks[:, :, 16:48, 16:48] = 1
    marked, _ = network.memorize(features, masks)
    assert not torch.equal(marked["value_s16"], empty["value_s16"])


@pytest.mark.parametrize("name", ["stm-mobile", "qmvos-mobile"])
def test_a_mask_is_as_strong_as_the_colors(name: str) -> None:
    """Colors spread by 1 and masks by 0.4 at most; weaker, and nothing is learned for long."""
    torch.manual_seed(0)
    network = build_network(name)
    public = build_backbone("mobilenet_v2").state_dict()
    for trunk in network.trunks:
        load_public_weights(trunk, public)
    first = network.trunks[1].get_parameter("features.0.0.weight")
    spread = first[:, 3:].std() / first[:, :3].std()
    assert 0.4 * spread.item() == pytest.approx(1.0, rel=1e-3)
