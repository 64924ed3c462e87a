"""From matched maps to finer ones: a feature pyramid, top down (TAM-VT, eq. 4).

X frames (sessions times frames of a clip), O objects, C channels, h and w a map's size.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Maps


class Pyramid(NamedTuple):
    """Output maps of the pixel decoder, each (X * O, C, h, w)."""

    s32: Tensor
    s16: Tensor
    s8: Tensor
    s4: Tensor


class Lateral(nn.Module):
    """1x1 convolution and GroupNorm, no activation: a backbone map in the decoder's width."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Output(nn.Module):
    """3x3 convolution, GroupNorm, ReLU."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.normed(self.conv(x))

    def normed(self, x: Tensor) -> Tensor:
        """What comes after the convolution."""
        return functional.relu(self.norm(x))


class DoubledConv(nn.Module):
    """An `Output`'s convolution of maps that nearest neighbor doubles, at their own size.

    The nine pixels around a place of the doubled map are four of the map at most; which ones its
    row and column, even or odd, tell. So four convolutions of 2x2 with summed weights give the
    four kinds of places, zeros beyond the border included, at 4/9 of the products.
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
        """(X, C, h, w) -> (X, C', 2 * h, 2 * w)."""
        rows = [
            torch.stack([self.places(x, row, column) for column in (0, 1)], -1).flatten(3)
            for row in (0, 1)
        ]
        return torch.stack(rows, 3).flatten(2, 3)

    def places(self, x: Tensor, row: int, column: int) -> Tensor:
        """Every other row and column of the answer, from this one on: (X, C', h, w)."""
        kernel = self.get_buffer(f"kernel_{row}{column}")
        return functional.conv2d(functional.pad(x, (1 - column, column, 1 - row, row)), kernel)


class PixelDecoder(nn.Module):
    """Laterals of the frame, shared by all objects, plus what matching found for each object.

    The mask term enters at strides 32 and 16 only, or with one scale at 32. A level narrower than
    the one above it takes that one through a 1x1 convolution.
    """

    def __init__(
        self, channels: tuple[int, ...], widths: tuple[int, int, int, int], groups: int
    ) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            Lateral(inputs, width, groups) for inputs, width in zip(channels, widths, strict=True)
        )
        self.outputs = nn.ModuleList(Output(width, groups) for width in widths)
        above = (*widths[1:], widths[-1])
        self.narrow = nn.ModuleList(
            nn.Identity() if a == width else nn.Conv2d(a, width, 1, bias=False)
            for width, a in zip(widths, above, strict=True)
        )
        self.doubled = nn.ModuleDict()  # by level

    def share(self) -> None:
        """From now on objects share what they can of the levels without a mask term.

        Equal up to rounding, for maps of exactly twice the size of the next.
        """
        for level in (0, 1):
            self.doubled[str(level)] = DoubledConv(self.output(level).conv.weight)

    def output(self, level: int) -> Output:
        """What makes a level's map."""
        found = self.outputs[level]
        assert isinstance(found, Output)
        return found

    def forward(self, maps: Maps, matched_s32: Tensor, matched_s16: Tensor | None) -> Pyramid:
        """The pyramid of every object; `matched_*` are (X, O, C, h, w), None where it is not."""
        s32 = self.outputs[3](self.joined(3, maps, matched_s32))
        if matched_s16 is None:
            s16 = self.finer(2, maps, s32)
        else:
            s16 = self.outputs[2](self.joined(2, maps, matched_s16) + self.upsampled(2, s32, maps))
        s8 = self.finer(1, maps, s16)
        return Pyramid(s32, s16, s8, self.finer(0, maps, s8))

    def joined(self, level: int, maps: Maps, matched: Tensor) -> Tensor:
        """Lateral plus mask term, (X * O, C, h, w)."""
        lateral = self.laterals[level](maps[level])
        return (lateral[:, None] + matched).flatten(0, 1)

    def upsampled(self, level: int, coarse: Tensor, maps: Maps) -> Tensor:
        """The coarser output at exactly this level's size, by nearest neighbor."""
        coarse = self.narrow[level](coarse)
        return functional.interpolate(coarse, size=maps[level].shape[-2:], mode="nearest")

    def finer(self, level: int, maps: Maps, coarse: Tensor) -> Tensor:
        """The output of a level without a mask term."""
        if str(level) in self.doubled:
            return self.shared(level, maps, coarse)
        lateral = self.laterals[level](maps[level])
        up = self.upsampled(level, coarse, maps)
        objects = up.unflatten(0, (lateral.shape[0], -1))  # (X, O, C, h, w)
        return self.outputs[level]((lateral[:, None] + objects).flatten(0, 1))

    def shared(self, level: int, maps: Maps, coarse: Tensor) -> Tensor:
        """The same: the first object as ever, each other one by its difference from the first.

        The convolution is linear: what it makes of the difference is added to what it makes of the
        first object and the lateral.
        """
        lateral, output = self.laterals[level](maps[level]), self.output(level)
        coarse = self.narrow[level](coarse).unflatten(0, (lateral.shape[0], -1))  # (X, O, C, h, w)
        up = functional.interpolate(coarse[:, 0], size=lateral.shape[-2:], mode="nearest")
        first = output.conv(lateral + up)[:, None]
        apart = coarse[:, 1:] - coarse[:, :1]  # none where there is one object
        others = self.doubled[str(level)](apart.flatten(0, 1)).unflatten(0, apart.shape[:2])
        return output.normed(torch.cat((first, first + others), dim=1).flatten(0, 1))


def tokens_of(feature: Tensor) -> Tensor:
    """(X, C, h, w) -> (X, h * w, C), contiguous: strided tokens make bf16 products slow."""
    return feature.flatten(2).transpose(1, 2).contiguous()


def map_of(tokens: Tensor, like: Tensor) -> Tensor:
    """(..., h * w, C) -> (..., C, h, w), the size taken from the map `like`."""
    height, width = like.shape[-2:]
    return torch.unflatten(tokens.transpose(-2, -1), -1, (height, width))
