"""What the served graphs compute beside the model itself."""

import pytest
import torch

from model.export.graphs import measure_confidence


def test_the_confidence_is_the_mean_over_pixels_inside_the_mask() -> None:
    """Pixels below 128 are outside, however many there are and whatever they hold."""
    masks = torch.zeros(1, 2, 2, 4, 4)  # (B, L, O, H, W)
    masks[0, 0, 0, 0] = torch.tensor([255.0, 129.0, 128.0, 127.0])
    masks[0, 0, 0, 1:] = 100
    masks[0, 1, 0] = 255
    masks[0, 0, 1] = 127
    found = measure_confidence(masks)  # (B, L, O)
    assert found[0, 0].tolist() == pytest.approx([(255 + 129 + 128) / 3 / 255, 0.0])
    assert found[0, 1].tolist() == [1.0, 0.0]
