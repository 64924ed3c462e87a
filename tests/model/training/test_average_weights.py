"""The mean of weights: each by its share, and what counts steps as it is."""

from __future__ import annotations

import torch

from scripts.average_weights import average


def test_weights_are_averaged_by_their_shares() -> None:
    one = {"weight": torch.tensor([1.0, 2.0]), "steps": torch.tensor(7)}
    other = {"weight": torch.tensor([3.0, 6.0]), "steps": torch.tensor(9)}
    mean = average([one, other], [0.75, 0.25])
    assert mean["weight"].tolist() == [1.5, 3.0]
    assert mean["steps"].item() == 7
