"""Two maps become one, with attention over channels and places (CBAM, Woo et al. 2018).

X images, C channels, h and w a map's size.
"""

import torch
from torch import Tensor, nn

from model.networks.residual import ResidualBlock

REDUCTION = 16


class ChannelAndSpatialAttention(nn.Module):
    """A map weighed by channel, then by place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channel_mlp = nn.Sequential(
            nn.Linear(channels, channels // REDUCTION),
            nn.ReLU(),
            nn.Linear(channels // REDUCTION, channels),
        )
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Return the weighed map (X, C, h, w)."""
        channel = self.channel_mlp(x.mean(dim=(2, 3))) + self.channel_mlp(x.amax(dim=(2, 3)))
        x = x * channel.sigmoid()[:, :, None, None]
        place = torch.cat((x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)), dim=1)
        return x * self.spatial(place).sigmoid()


class Fusion(nn.Module):
    """A frame's map and one of an object, as one map of the object."""

    def __init__(self, frame: int, of_object: int, width: int) -> None:
        super().__init__()
        self.block1 = ResidualBlock(frame + of_object, width)
        self.attention = ChannelAndSpatialAttention(width)
        self.block2 = ResidualBlock(width, width)

    def forward(self, frame: Tensor, of_object: Tensor) -> Tensor:
        """Return (X * O, C, h, w) of a frame's map (X, C, h, w) and objects' (X, O, D, h, w)."""
        objects = of_object.shape[1]
        seen = frame[:, None].expand(-1, objects, -1, -1, -1)
        x = self.block1(torch.cat((seen, of_object), dim=2).flatten(0, 1))
        return self.block2(x + self.attention(x))
