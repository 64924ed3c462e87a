"""The decoder: refinement from stride 16 to 4, each object for itself (STM, section 3.3).

The skips depend on the frame alone and are computed once for all objects: exact, and three fifths
of the published decoder's work for one object.

X frames, O objects, C channels, h and w a map's size.
"""

from torch import Tensor, nn
from torch.nn import functional

from model.networks.residual import ResidualBlock
from model.networks.stm.config import StmConfig


class Refinement(nn.Module):
    """Joins a coarse map with the frame's skip at twice its size."""

    def __init__(self, inputs: int, coarse: int, width: int, groups: int) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(inputs, width, 3, padding=1)
        self.skip_block = ResidualBlock(width, width, norm_groups=groups)
        self.narrow = nn.Identity() if coarse == width else nn.Conv2d(coarse, width, 1)
        self.block = ResidualBlock(width, width, norm_groups=groups)

    def encode_skip(self, feature: Tensor) -> Tensor:
        """Return the skip (X, C, h, w) of the backbone's map, once for all objects."""
        return self.skip_block(self.skip_conv(feature))

    def forward(self, skip: Tensor, coarse: Tensor, objects: int) -> Tensor:
        """Return (X * O, C, h, w) of a skip (X, C, h, w) and a map of half its size."""
        raised = functional.interpolate(
            self.narrow(coarse), size=skip.shape[-2:], mode="bilinear", align_corners=False
        )
        joined = skip[:, None] + raised.unflatten(0, (-1, objects))
        return self.block(joined.flatten(0, 1))


class RefinementDecoder(nn.Module):
    """From what was read to the two channels (background, object) of each object."""

    def __init__(self, channels: tuple[int, ...], config: StmConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        groups = config.norm_groups
        self.join = nn.Conv2d(2 * config.value, coarse, 3, padding=1)
        self.block = ResidualBlock(coarse, coarse, norm_groups=groups)
        self.refine_s8 = Refinement(channels[1], coarse, middle, groups)
        self.refine_s4 = Refinement(channels[0], middle, fine, groups)
        self.predict = nn.Conv2d(fine, 2, 3, padding=1)

    def forward(self, read: Tensor, skips: tuple[Tensor, Tensor], objects: int) -> Tensor:
        """Return both channels at stride 4, (X * O, 2, h, w).

        read (X * O, 2 V, h / 4, w / 4); skips at strides 8 and 4, each (X, C, h, w).
        """
        x = self.block(self.join(read))
        x = self.refine_s8(skips[0], x, objects)
        x = self.refine_s4(skips[1], x, objects)
        return self.predict(functional.relu(x))
