"""The residual block of STM and of those that follow it, with its activations before the layers.

B images, C channels, h and w a map's size.
"""

from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """`x' + conv(relu(conv(relu(x))))`, where x' is x, or a convolution of it to another width.

    With `norm_groups` a GroupNorm stands behind the sum; published ones have none.
    """

    def __init__(self, inputs: int, outputs: int, *, norm_groups: int = 0) -> None:
        super().__init__()
        self.downsample = (
            nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 3, padding=1)
        )
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm = nn.GroupNorm(norm_groups, outputs) if norm_groups else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return a map (B, C, h, w) of the block's width."""
        y = self.conv2(functional.relu(self.conv1(functional.relu(x))))
        return self.norm(self.downsample(x) + y)
