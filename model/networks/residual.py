"""The residual block of STM and of those that follow it, with its activations before the layers.

B images, C channels, h and w a map's size.
"""

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """`x' + conv(relu(conv(relu(x))))`, where x' is x, or a convolution of it to another width.

    With `norm_groups` a GroupNorm stands behind the sum; published ones have none. `separable`
    convolutions are a depthwise and a pointwise one.
    """

    def __init__(
        self, inputs: int, outputs: int, *, norm_groups: int = 0, separable: bool = False
    ) -> None:
        super().__init__()
        build = build_separable if separable else build_full
        self.downsample = nn.Identity() if inputs == outputs else build(inputs, outputs)
        self.conv1 = build(inputs, outputs)
        self.conv2 = build(outputs, outputs)
        self.norm = nn.GroupNorm(norm_groups, outputs) if norm_groups else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a map (B, C, h, w) of the block's width."""
        y = self.conv2(functional.relu(self.conv1(functional.relu(x))))
        return self.norm(self.downsample(x) + y)


def build_full(inputs: int, outputs: int) -> nn.Module:
    """Return a 3x3 convolution."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def build_separable(inputs: int, outputs: int) -> nn.Module:
    """Return a 3x3 convolution of each channel and a 1x1 convolution of all."""
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1))
