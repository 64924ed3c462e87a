"""The hidden state of an object: a gated update by convolution (XMem, section 3.3).

X frames, O objects, D channels of the state, h and w the size at stride 16.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GatedUpdate(nn.Module):
    """The next state from what was seen: forget, update, and new values."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.transform = nn.Conv2d(inputs + hidden, 3 * hidden, 3, padding=1)

    def forward(self, seen: Tensor, hidden: Tensor) -> Tensor:
        """Return the state (X * O, D, h, w) after `seen` (X * O, C, h, w).

        Both gates multiply the old state, which is more than a GRU does.
        """
        values = self.transform(torch.cat((seen, hidden), dim=1))
        forget, update, new = values.chunk(3, dim=1)
        forget, update = forget.sigmoid(), update.sigmoid()
        return forget * hidden * (1 - update) + update * new.tanh()


class StateUpdate(nn.Module):
    """The update of every frame, from the decoder's maps at three strides."""

    def __init__(self, widths: tuple[int, int, int], mixed: int, hidden: int) -> None:
        super().__init__()
        fine, middle, coarse = widths
        self.coarse = nn.Conv2d(coarse, mixed, 1)
        self.middle = nn.Conv2d(middle, mixed, 1)
        self.fine = nn.Conv2d(fine + 1, mixed, 1)
        self.gates = GatedUpdate(mixed, hidden)

    def forward(
        self, maps: tuple[Tensor, Tensor, Tensor], logits: Tensor, hidden: Tensor
    ) -> Tensor:
        """Return the next state (X * O, D, h, w).

        maps at strides 16, 8 and 4, each (X * O, C, ...); logits (X * O, 1, 4 h, 4 w).
        """
        g16, g8, g4 = maps
        fine = functional.avg_pool2d(torch.cat((g4, logits), dim=1), 4)
        seen = self.coarse(g16) + self.middle(functional.avg_pool2d(g8, 2)) + self.fine(fine)
        return self.gates(seen, hidden)
