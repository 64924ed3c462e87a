"""What the two served graphs compute: a network's verbs on whole arrays, rounding included.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, H and W the size.
"""

import torch
from torch import Tensor, nn

from model.networks.base import Bank, Tensors, TrackingNetwork, soft_masks, take_frames


class Memorize(nn.Module):
    """Makes one entry of a frame uint8 (B, H, W, 3) and masks uint8 (B, O, H, W)."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.model = network  # the name that the graphs' constants begin with

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the entry's tensors in the order of the network's description."""
        frame, masks = inputs
        features = self.model.encode_frames(self.model.normalize(frame))
        entry, _ = self.model.memorize(features, masks.float() / 255)
        return store_entry(self.model, entry)


class Segment(nn.Module):
    """Makes masks, confidence and the last frame's entry of a clip and the bank."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.model = network

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return masks uint8 (B, L, O, H, W), confidence (B, L, O) and the entry's tensors.

        `inputs` are frames uint8 (B, L, H, W, 3), the bank's tensors, age (B, N) and entry_valid
        (B, O, N).
        """
        frames, *stored, age, entry_valid = inputs
        batch, length, height, width = frames.shape[:4]
        names = (tensor.name for tensor in self.model.bank_tensors)
        tensors = {name: value.float() for name, value in zip(names, stored, strict=True)}
        bank = Bank(tensors, age, present=age >= 0, entry_valid=entry_valid)
        features = self.model.encode_frames(self.model.normalize(frames.flatten(0, 1)))
        logits = self.model.segment(features, bank).logits[-1]
        soft = soft_masks(logits, (height, width))
        known = entry_valid.any(dim=2)[:, None, :, None, None]
        masks = torch.round(torch.where(known, soft, 0.0) * 255)  # (B, L, O, H, W)
        index = torch.arange(batch, device=frames.device) * length + (length - 1)
        entry, _ = self.model.memorize(take_frames(features, index), masks[:, -1] / 255)
        return (
            masks.to(torch.uint8),
            measure_confidence(masks),
            *store_entry(self.model, entry),
        )


def measure_confidence(masks: Tensor) -> Tensor:
    """Return the mean soft value, 0 to 1, over pixels of at least 128, (B, L, O).

    It is 0 where there are none.
    """
    inside = (masks >= 128).float()
    total = (masks * inside).sum(dim=(-2, -1)) / 255
    return total / inside.sum(dim=(-2, -1)).clamp(min=1)


def store_entry(network: TrackingNetwork, entry: Tensors) -> tuple[Tensor, ...]:
    """Return an entry's tensors in the bank's types and order."""
    return tuple(entry[t.name].to(getattr(torch, t.dtype)) for t in network.bank_tensors)
