"""A small network from clicks, a box and a previous mask to a mask and a score.

MobileNetV2 sees the picture; what is pointed at joins it at stride 4, so that all that follows can
follow from it (as in RITM, Sofiiuk et al. 2021). At stride 16 every place looks at every other one,
which carries a click over the whole of its object. The decoder goes back to stride 4.

B pictures, P points, H and W the picture's size, T = H / 16 * W / 16 tokens, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import MobileNetV2
from model.networks.base import CENTERED
from model.networks.prompt.prompt_maps import PROMPT_MAPS, draw_prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptConfig:
    """The numbers of a prompt network; its graph is `<name>_prompt`."""

    name: str = "tamvt-mobile"
    short_side: int = 256
    width: int = 96
    heads: int = 4
    layers: int = 2
    decoder: tuple[int, int] = (64, 48)  # channels at strides 8 and 4
    weights_license: str = "research use; see model/weights/README.md"


class PlaceAttention(nn.Module):
    """A transformer's layer over the places of a map: attention, then two linear layers.

    A depthwise convolution tells each place what is beside it, in place of a position encoding,
    so that any size will do.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.around(x)
        height, width = x.shape[-2:]
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, T, C)
        tokens = tokens + self.attend(self.norm(tokens))
        tokens = tokens + self.narrow(functional.relu(self.wide(self.norm2(tokens))))
        return tokens.transpose(1, 2).unflatten(2, (height, width))

    def attend(self, tokens: Tensor) -> Tensor:
        """Return what each of the tokens (B, T, C) reads from all, (B, T, C)."""
        # (B, T, 3C) -> three of (B, heads, T, C / heads)
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        weight = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        read = weight.softmax(dim=-1) @ value
        return self.out(read.transpose(1, 2).flatten(2))


class RaiseLayer(nn.Module):
    """One step of the decoder: a coarse map doubled, joined with a fine one, and smoothed."""

    def __init__(self, coarse: int, fine: int, width: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(coarse, width, 1)
        self.fine = nn.Conv2d(fine, width, 1)
        self.around = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        size = (fine.shape[-2], fine.shape[-1])
        doubled = functional.interpolate(
            self.coarse(coarse), size=size, mode="bilinear", align_corners=False
        )
        x = functional.relu(doubled + self.fine(fine))
        return x + functional.relu(self.mix(functional.relu(self.around(x))))


class PromptNetwork(nn.Module):
    """Pictures and prompts to mask logits and scores."""

    def __init__(self, config: PromptConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = MobileNetV2(trunk=True)
        fine, middle, deep = self.backbone.channels[:3]
        width, (eighth, quarter) = config.width, config.decoder
        self.prompt = nn.Sequential(
            nn.Conv2d(PROMPT_MAPS, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, fine, 3, padding=1)
        )
        self.enter = nn.Conv2d(deep, width, 1)
        self.pointed = nn.Conv2d(PROMPT_MAPS, width, 1)
        self.layers = nn.Sequential(
            *(PlaceAttention(width, config.heads) for _ in range(config.layers))
        )
        self.raise8 = RaiseLayer(width, middle, eighth)
        self.raise4 = RaiseLayer(eighth, fine + PROMPT_MAPS, quarter)
        self.last = nn.Conv2d(quarter, 24, 3, padding=1)
        self.mask = nn.Conv2d(24, 1, 1)
        self.judge = nn.Sequential(nn.Linear(24 + width + 2, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(
        self, image: Tensor, points: Tensor, point_labels: Tensor, previous: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return mask logits at stride 4, (B, 1, h, w), and the logits of the scores, (B,).

        `image` is uint8 or float (B, H, W, 3) of 0 to 255, `previous` (B, H, W) of 0 to 1.
        """
        maps = draw_prompts(points, point_labels, previous)
        mean, deviation = (image.new_tensor(each, dtype=torch.float32) for each in CENTERED)
        x = ((image.float() / 255 - mean) / deviation).permute(0, 3, 1, 2)
        features = self.backbone.features
        fine = features[:4](x)  # (B, 24, H / 4, W / 4)
        guided = fine + self.prompt(maps)
        middle = features[4:7](guided)  # (B, 32, H / 8, W / 8)
        deep = self.enter(features[7:14](middle))  # (B, C, H / 16, W / 16)
        # The largest value of each square: a click must not fade.
        deep = deep + self.pointed(functional.max_pool2d(maps, 4))
        seen = self.layers(deep)
        raised = self.raise4(self.raise8(seen, middle), torch.cat((guided, maps), dim=1))
        last = functional.relu(self.last(raised))
        logits = self.mask(last)
        return logits, self.score(logits, last, seen)

    def score(self, logits: Tensor, last: Tensor, seen: Tensor) -> Tensor:
        """Return the logits (B,) of how well the masks fit, from what the mask was made of."""
        soft = logits.detach().sigmoid()
        area = soft.mean(dim=(-2, -1))  # (B, 1)
        doubt = (soft * (1 - soft)).mean(dim=(-2, -1)) / (area + 1e-3)
        inside = (last * soft).mean(dim=(-2, -1)) / (area + 1e-3)  # (B, 24)
        told = torch.cat((inside, seen.mean(dim=(-2, -1)), area, doubt), dim=1)
        return self.judge(told)[:, 0]


def build_prompt_network(config: PromptConfig | None = None) -> PromptNetwork:
    """Return a prompt network with fresh weights; what is up to stride 4 is not trained."""
    network = PromptNetwork(config or PromptConfig())
    network.backbone.freeze_stem()
    assert network.mask.bias is not None
    nn.init.constant_(network.mask.bias, -1.5)  # an object is the smaller part of a picture
    return network


def raise_mask(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return mask logits (B, 1, h, w) at `size` = (H, W), (B, H, W)."""
    return functional.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, 0]
