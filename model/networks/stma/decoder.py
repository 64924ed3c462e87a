"""From the test frame's feature and what it read of IDs to a logit of every slot at stride 4.

X frames, C channels, S slots and the background, h and w the size at stride 16.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.residual import ResidualBlock
from model.networks.stma.config import StmaConfig


class SlotDecoder(nn.Module):
    """Two upsamplings with the frame's skips; all slots come out at once.

    What was read of IDs also tells the slots by itself, coarsely: a training finds that first.
    """

    def __init__(self, channels: tuple[int, ...], config: StmaConfig) -> None:
        super().__init__()
        fine, middle = config.widths
        groups = config.norm_groups
        self.join = nn.Conv2d(config.hidden + config.id_channels, middle, 1)
        self.block_s16 = ResidualBlock(middle, middle, norm_groups=groups)
        self.skip_s8 = nn.Conv2d(channels[1], middle, 1)
        self.block_s8 = ResidualBlock(middle, middle, norm_groups=groups)
        self.narrow = nn.Conv2d(middle, fine, 1)
        self.skip_s4 = nn.Conv2d(channels[0], fine, 1)
        self.block_s4 = ResidualBlock(fine, fine, norm_groups=groups)
        self.coarse = nn.Conv2d(config.id_channels, config.slots + 1, 1)
        self.predict = nn.Conv2d(fine, config.slots + 1, 3, padding=1)

    def forward(self, test: Tensor, ids: Tensor, skips: tuple[Tensor, Tensor]) -> Tensor:
        """Return logits (X, S, 4 h, 4 w), the background's first.

        test (X, C, h, w), ids (X, D, h, w); the backbone's maps at strides 8 and 4.
        """
        x = self.block_s16(self.join(torch.cat((test, ids), dim=1)))
        x = self.block_s8(self.skip_s8(skips[0]) + raise_map(x, skips[0]))
        x = self.block_s4(self.skip_s4(skips[1]) + raise_map(self.narrow(x), skips[1]))
        return self.predict(functional.relu(x)) + raise_map(self.coarse(ids), x)


def raise_map(x: Tensor, like: Tensor) -> Tensor:
    """Return a map at the size of another, bilinear."""
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)
