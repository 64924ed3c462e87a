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
        return self.normalize(self.conv(x))

    def normalize(self, x: Tensor) -> Tensor:
        """Return what comes after the convolution."""
        return functional.relu(self.norm(x))


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

    def forward(
        self, maps: Maps, matched_s32: Tensor, matched_s16: Tensor | None = None
    ) -> Pyramid:
        """Return the pyramid of every object; `matched_*` are (X, O, C, h, w)."""
        s32 = self.outputs[3](self.add_matched(3, maps, matched_s32))
        if matched_s16 is None:
            s16 = self.refine(2, maps, s32)
        else:
            both = self.add_matched(2, maps, matched_s16) + self.upsample(2, s32, maps)
            s16 = self.outputs[2](both)
        s8 = self.refine(1, maps, s16)
        return Pyramid(s32, s16, s8, self.refine(0, maps, s8))

    def add_matched(self, level: int, maps: Maps, matched: Tensor) -> Tensor:
        """Return lateral plus mask term, (X * O, C, h, w)."""
        lateral = self.laterals[level](maps[level])
        return (lateral[:, None] + matched).flatten(0, 1)

    def upsample(self, level: int, coarse: Tensor, maps: Maps) -> Tensor:
        """Return the coarser output at exactly this level's size, by nearest neighbor."""
        coarse = self.narrow[level](coarse)
        return functional.interpolate(coarse, size=maps[level].shape[-2:], mode="nearest")

    def refine(self, level: int, maps: Maps, coarse: Tensor) -> Tensor:
        """Return the output of a level without a mask term."""
        lateral = self.laterals[level](maps[level])
        up = self.upsample(level, coarse, maps)
        objects = up.unflatten(0, (lateral.shape[0], -1))  # (X, O, C, h, w)
        return self.outputs[level]((lateral[:, None] + objects).flatten(0, 1))


def tokens_of(feature: Tensor) -> Tensor:
    """Return (X, h * w, C) of (X, C, h, w), contiguous: strided tokens make bf16 products slow."""
    return feature.flatten(2).transpose(1, 2).contiguous()


def map_of(tokens: Tensor, like: Tensor) -> Tensor:
    """Return (..., C, h, w) of (..., h * w, C), the size taken from the map `like`."""
    height, width = like.shape[-2:]
    return torch.unflatten(tokens.transpose(-2, -1), -1, (height, width))
