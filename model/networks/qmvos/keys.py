"""Where a frame looks, and how: key, shrinkage and selection (XMem, section 3.2).

X frames, K channels of a key, h and w the size at stride 16.
"""

from torch import Tensor, nn


class KeyProjection(nn.Module):
    """Three convolutions of the coarsest map."""

    def __init__(self, inputs: int, key: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(inputs, key, 3, padding=1)
        self.shrinkage = nn.Conv2d(inputs, 1, 3, padding=1)
        self.selection = nn.Conv2d(inputs, key, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the key (X, K, h, w), its shrinkage (X, 1, h, w) and the selection (X, K, h, w).

        Shrinkage (at least 1) belongs to a frame that is remembered, selection (0 to 1) to one
        that asks.
        """
        return self.key(x), self.shrinkage(x) ** 2 + 1, self.selection(x).sigmoid()
