"""The memory encoder: what a frame and an object's mask become (STM, section 3.1).

B sessions, O objects, T tokens of stride 16, C channels, H and W the input's size, h and w a map's.
"""

import torch
from torch import Tensor, nn

from model.networks.backbones import MobileNetV2, ResNet


class KeyValue(nn.Module):
    """Two convolutions: the key by which a place is found, and the value that is found there."""

    def __init__(self, inputs: int, key: int, value: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(inputs, key, 3, padding=1)
        self.value = nn.Conv2d(inputs, value, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return maps (X, K, h, w) and (X, V, h, w)."""
        return self.key(x), self.value(x)


class MemoryEncoder(nn.Module):
    """A trunk of its own over five channels: the frame, the object, and the other objects."""

    def __init__(self, trunk: ResNet | MobileNetV2, head: KeyValue) -> None:
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys (B, O, T, K) and values (B, O, T, V).

        images (B, 3, H, W) normalized, masks (B, O, H, W) in [0, 1].
        """
        objects = masks.shape[1]
        # Given masks may overlap; those that were aggregated add up to 1 at most.
        others = (masks.sum(dim=1, keepdim=True) - masks).clamp(0, 1)
        seen = images[:, None].expand(-1, objects, -1, -1, -1)
        stacked = torch.cat((seen, masks[:, :, None], others[:, :, None]), dim=2)
        key, value = self.head(self.trunk(stacked.flatten(0, 1))[-1])
        return tokens_of(key, objects), tokens_of(value, objects)


def tokens_of(maps: Tensor, objects: int) -> Tensor:
    """Return tokens (B, O, T, C) of maps (B * O, C, h, w)."""
    return maps.flatten(2).transpose(1, 2).unflatten(0, (-1, objects))
