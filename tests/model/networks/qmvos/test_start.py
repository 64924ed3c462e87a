"""How a training of QMVOS begins: nothing is sure yet."""

import torch

from model.networks.base import Bank
from model.networks.registry import build_network

# Maps of a trunk with public weights are so many times as large as those of a fresh one.
LARGER = 40


@torch.inference_mode()
def test_a_fresh_network_is_sure_of_nothing() -> None:
    torch.manual_seed(0)
    network = build_network("qmvos-mobile").eval()
    features = network.encode_frames(torch.randn(1, 3, 64, 64))
    masks = torch.zeros(1, 1, 64, 64)
    masks[:, :, 16:48, 16:48] = 1
    entry, state = network.memorize(features, masks)
    logits, _ = network.segment(features, Bank.of_entries((entry,), state))
    assert LARGER * logits[-1].abs().max() < 4  # probabilities of 2 to 98 %
