"""Object queries: how a frame makes them (SIM), and how they look at the next one (QCIM).

B sessions, O objects, T tokens of stride 16, Q channels of a query, H and W the input's size.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.qmvos.config import QmvosConfig

SAMPLED = 8  # a query is pooled over rows and columns 0, 8, 16, ...
LEAST_AREA = 5e-4


class ObjectSelfAttention(nn.Module):
    """Objects look at each other, then an MLP: one post-norm layer."""

    def __init__(self, config: QmvosConfig) -> None:
        super().__init__()
        width = config.query
        self.self_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, queries: Tensor, absent: Tensor | None) -> Tensor:
        """Return queries (B, O, Q); nobody looks at `absent` (B, O) ones."""
        read, _ = self.self_attention(
            queries, queries, queries, key_padding_mask=absent, need_weights=False
        )
        queries = self.norm1(queries + read)
        return self.norm2(queries + self.linear2(functional.relu(self.linear1(queries))))


class SemanticInjection(nn.Module):
    """SIM: a query is the mean of a frame's features over the object's pixels."""

    def __init__(self, channels: tuple[int, ...], config: QmvosConfig) -> None:
        super().__init__()
        width, groups = config.query, config.norm_groups
        self.project = nn.Conv2d(channels[2], width, 1)
        self.raise_conv = nn.Conv2d(width, width, 1, bias=False)
        self.raise_norm = nn.GroupNorm(groups, width)
        self.join_conv = nn.Conv2d(width + channels[1], width, 1, bias=False)
        self.join_norm = nn.GroupNorm(groups, width)
        self.attention = ObjectSelfAttention(config)

    def encode_frames(self, f8: Tensor, f16: Tensor) -> Tensor:
        """Return what queries are pooled from, (X, Q, H / 8, W / 8)."""
        raised = functional.interpolate(
            self.project(f16), size=f8.shape[-2:], mode="bilinear", align_corners=True
        )
        raised = self.raise_norm(self.raise_conv(raised))
        return self.join_norm(self.join_conv(torch.cat((raised, f8), dim=1)))

    def forward(self, pooled_from: Tensor, masks: Tensor, before: Tensor) -> Tensor:
        """Return the queries (B, O, Q) after a frame with aggregated masks (B, O, H, W).

        An object without a pixel keeps the query of `before` (B, O, Q), if it had one: zeros stand
        for none. What has neither is a slot without an object, and nobody looks at it.
        """
        there = label_pixels(masks)[:, :, ::SAMPLED, ::SAMPLED].flatten(2)  # (B, O, T8)
        area = there.sum(dim=2, keepdim=True)
        features = pooled_from.flatten(2).transpose(1, 2)  # (B, T8, Q)
        pooled = there @ features / (area + LEAST_AREA)
        had_one = (before != 0).any(dim=2)
        exists = had_one | (masks.amax(dim=(2, 3)) > 0)
        made = self.attention(pooled, hide_absent(exists)) * exists[:, :, None]
        return torch.where((area == 0) & had_one[:, :, None], before, made)


class QueryInteraction(nn.Module):
    """QCIM: queries look at each other and at the maps of all objects; one post-norm layer."""

    def __init__(self, config: QmvosConfig) -> None:
        super().__init__()
        width = config.query
        self.self_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.norm_self = nn.LayerNorm(width)
        self.cross_attention = nn.MultiheadAttention(width, config.heads, batch_first=True)
        self.norm_cross = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, width)
        self.norm_mlp = nn.LayerNorm(width)

    def forward(self, queries: Tensor, tokens: Tensor, exists: Tensor | None) -> Tensor:
        """Return queries (B, O, Q) that have seen tokens (B, O, T, Q).

        Slots without an object are not looked at, nor their tokens; `exists` (B, O), None: all do.
        """
        absent = None if exists is None else hide_absent(exists)
        read, _ = self.self_attention(
            queries, queries, queries, key_padding_mask=absent, need_weights=False
        )
        queries = self.norm_self(queries + read)
        of_tokens = None
        if absent is not None:
            of_tokens = absent[..., None].expand(-1, -1, tokens.shape[2]).flatten(1)
        seen = tokens.flatten(1, 2)
        read, _ = self.cross_attention(
            queries, seen, seen, key_padding_mask=of_tokens, need_weights=False
        )
        queries = self.norm_cross(queries + read)
        return self.norm_mlp(queries + self.linear2(functional.relu(self.linear1(queries))))


def hide_absent(exists: Tensor) -> Tensor:
    """Return what is added to the logits of each object, (B, O): published models use -1e9."""
    return torch.where(exists, 0.0, -1e9)


def label_pixels(masks: Tensor) -> Tensor:
    """Return for each object the pixels that are its own, 1 or 0, of aggregated masks.

    The most probable wins; of equal ones the background, then the lowest slot.
    """
    background = (1 - masks.sum(dim=1, keepdim=True)).clamp(min=0)
    winner = torch.cat((background, masks), dim=1).argmax(dim=1, keepdim=True)
    slots = torch.arange(1, masks.shape[1] + 1, device=masks.device)[:, None, None]
    return (winner == slots).to(masks.dtype)
