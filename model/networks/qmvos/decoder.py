"""The decoder: a map of each object at stride 4, and its product with the object's query.

X frames, O objects, C channels, Q channels of a query, h and w the size at stride 16.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.qmvos.config import QmvosConfig
from model.networks.qmvos.fusion import Fusion
from model.networks.qmvos.hidden_state import StateUpdate
from model.networks.qmvos.queries import QueryInteraction
from model.networks.residual import ResidualBlock


class Upsampling(nn.Module):
    """Joins a coarse map of each object with the frame's at twice its size."""

    def __init__(self, skip: int, coarse: int, width: int, *, separable: bool = False) -> None:
        super().__init__()
        self.skip_conv = nn.Conv2d(skip, coarse, 3, padding=1)
        self.block = ResidualBlock(coarse, width, separable=separable)

    def forward(self, skip: Tensor, coarse: Tensor) -> Tensor:
        """Return (X * O, C, ...) of a skip (X, D, ...), made once, and maps (X * O, D, ...)."""
        raised = functional.interpolate(
            coarse, size=skip.shape[-2:], mode="bilinear", align_corners=False
        )
        return self.block((skip[:, None] + raised.unflatten(0, (skip.shape[0], -1))).flatten(0, 1))


class Decoded(NamedTuple):
    """What the decoder makes of one frame of each session."""

    logits: Tensor  # (B, O, 4 h, 4 w)
    hidden: Tensor  # (B * O, D, h, w) after the light update


class QueryDecoder(nn.Module):
    """Fusion, two upsamplings, queries that look at the coarse maps, and the light update."""

    def __init__(self, channels: tuple[int, ...], config: QmvosConfig) -> None:
        super().__init__()
        fine, middle, coarse = config.widths
        self.fusion = Fusion(channels[2], config.value + config.hidden, coarse)
        self.up_s8 = Upsampling(channels[1], coarse, middle)
        self.up_s4 = Upsampling(channels[0], middle, fine, separable=config.separable)
        self.project = nn.Conv2d(coarse, config.query, 1)
        self.interaction = QueryInteraction(config)
        self.state_update = StateUpdate(config.widths, config.mixed, config.hidden)

    def encode_skips(self, f4: Tensor, f8: Tensor) -> tuple[Tensor, Tensor]:
        """Return the skips at strides 8 and 4, once for all objects."""
        return self.up_s8.skip_conv(f8), self.up_s4.skip_conv(f4)

    def forward(
        self,
        f16: Tensor,
        skips: tuple[Tensor, Tensor],
        read: Tensor,
        hidden: Tensor,
        queries: Tensor,
        exists: Tensor | None,
    ) -> Decoded:
        """Return logits and the next hidden state of B frames.

        read (B, O, V, h, w), hidden (B, O, D, h, w), queries (B, O, Q); `exists` (B, O) tells slots
        with an object, None: all are.
        """
        objects = queries.shape[1]
        g16 = self.fusion(f16, torch.cat((read, hidden), dim=2))
        tokens = self.project(g16).flatten(2).transpose(1, 2).unflatten(0, (-1, objects))
        seen = self.interaction(queries, tokens, exists)
        g8 = self.up_s8(skips[0], g16)
        g4 = self.up_s4(skips[1], g8)
        logits = torch.einsum("xc,xchw->xhw", seen.flatten(0, 1), g4)
        state = self.state_update((g16, g8, g4), logits[:, None], hidden.flatten(0, 1))
        return Decoded(logits.unflatten(0, (-1, objects)), state)
