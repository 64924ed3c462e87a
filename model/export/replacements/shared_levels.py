"""The pixel decoder's finer levels, whose work several objects share.

X frames, O objects, C channels, h and w a map's size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Maps
from model.networks.tamvt.pixel_decoder import Output, PixelDecoder


class DoubledConv(nn.Module):
    """An `Output`'s convolution of maps that nearest neighbor doubles, at their own size.

    The nine pixels around one of the doubled map are at most four of the map; which four depends on
    whether its row and column are even or odd. So four convolutions of 2x2 with summed weights give
    the four kinds of pixels, zeros beyond the border included, at 4/9 of the products.
    """

    def __init__(self, kernel: Tensor) -> None:
        super().__init__()
        above, middle, below = kernel.detach().split(1, dim=2)  # (C', C, 1, 3) each
        # Around an even row lie the one above and, twice, its own; around an odd one that below.
        pairs = (torch.cat((above, middle + below), 2), torch.cat((above + middle, below), 2))
        for row, pair in enumerate(pairs):
            left, center, right = pair.split(1, dim=3)
            even, odd = torch.cat((left, center + right), 3), torch.cat((left + center, right), 3)
            self.register_buffer(f"kernel_{row}0", even, persistent=False)
            self.register_buffer(f"kernel_{row}1", odd, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (X, C', 2 * h, 2 * w) of (X, C, h, w)."""
        rows = [
            torch.stack([self.convolve(x, row, column) for column in (0, 1)], -1).flatten(3)
            for row in (0, 1)
        ]
        return torch.stack(rows, 3).flatten(2, 3)

    def convolve(self, x: Tensor, row: int, column: int) -> Tensor:
        """Return every other row and column of the answer, from this one on: (X, C', h, w)."""
        kernel = self.get_buffer(f"kernel_{row}{column}")
        return functional.conv2d(functional.pad(x, (1 - column, column, 1 - row, row)), kernel)


class SharedPixelDecoder(PixelDecoder):
    """A pixel decoder that convolves the first object as ever, each other by its difference.

    The convolution is linear: what it makes of the difference is added to what it makes of the
    first object and the lateral. It is for maps of exactly twice the size of the next, at the
    levels without a mask term.
    """

    def __init__(self, decoder: PixelDecoder) -> None:
        nn.Module.__init__(self)
        self.laterals, self.outputs = decoder.laterals, decoder.outputs
        self.narrow = decoder.narrow
        self.doubled = nn.ModuleDict(
            {str(level): DoubledConv(self.output(level).conv.weight) for level in (0, 1)}
        )

    def output(self, level: int) -> Output:
        """Return what makes a level's map."""
        found = self.outputs[level]
        assert isinstance(found, Output)
        return found

    def refine(self, level: int, maps: Maps, coarse: Tensor) -> Tensor:
        if str(level) not in self.doubled:
            return super().refine(level, maps, coarse)
        lateral, output = self.laterals[level](maps[level]), self.output(level)
        coarse = self.narrow[level](coarse).unflatten(0, (lateral.shape[0], -1))  # (X, O, C, h, w)
        up = functional.interpolate(coarse[:, 0], size=lateral.shape[-2:], mode="nearest")
        first = output.conv(lateral + up)[:, None]
        apart = coarse[:, 1:] - coarse[:, :1]  # none where there is one object
        others = self.doubled[str(level)](apart.flatten(0, 1)).unflatten(0, apart.shape[:2])
        return output.normalize(torch.cat((first, first + others), dim=1).flatten(0, 1))
