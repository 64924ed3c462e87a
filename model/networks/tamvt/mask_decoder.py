"""The space-time decoder: one query a frame, which becomes that frame's mask.

B sessions, L frames of a clip, O objects, X = B * L * O, T tokens, C channels, P heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.position import frame_code, sine_position
from model.networks.tamvt.pixel_decoder import Pyramid, tokens_of

LEVELS = 3  # strides 32, 16, 8


class FoldedAttention(nn.Module):
    """Multi-head attention for few queries over many tokens, without projecting the tokens.

    With w_k folded into the query and w_v applied to the readout, keys and values are the tokens
    themselves: equal to torch's `MultiheadAttention` up to rounding (the key bias cancels in the
    softmax), at 1 / (C / P) of its cost for one query.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query: Tensor, tokens: Tensor, place: Tensor) -> Tensor:
        """Return the readout (X, Q, C) of queries (X, Q, C).

        Keys are tokens + place, values are tokens: tokens (X, T, C), place (T, C).
        """
        w_query, w_key, w_value = self.in_proj_weight.chunk(3)
        b_query, _, b_value = self.in_proj_bias.chunk(3)
        width = query.shape[-1] // self.heads
        q = functional.linear(query, w_query, b_query) * width**-0.5
        q = q.unflatten(2, (self.heads, width)).transpose(1, 2)  # (X, P, Q, C / P)
        q = q @ w_key.unflatten(0, (self.heads, width))  # (X, P, Q, C)
        logits = q @ (tokens + place).transpose(1, 2)[:, None]  # (X, P, Q, T)
        weights = functional.dropout(logits.softmax(dim=-1), self.dropout, self.training)
        read = weights.to(tokens.dtype) @ tokens[:, None]  # (X, P, Q, C)
        read = read @ w_value.unflatten(0, (self.heads, width)).transpose(1, 2)
        read = read.transpose(1, 2).flatten(2) + b_value  # (X, Q, C)
        return self.out_proj(read)


class DecoderLayer(nn.Module):
    """Attention among the clip's queries, then to each's own frame, then an MLP; post-norm."""

    def __init__(self, channels: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = FoldedAttention(channels, heads, dropout)
        self.cross_attention = FoldedAttention(channels, heads, dropout)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm_self = nn.LayerNorm(channels)
        self.norm_cross = nn.LayerNorm(channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, code: Tensor, tokens: Tensor, place: Tensor) -> Tensor:
        """Return the next state (B, L, O, C); code (L, C), tokens (X, T, C), place (T, C)."""
        clip = state.transpose(1, 2)  # (B, O, L, C)
        y = self.self_attention((clip + code).flatten(0, 1), clip.flatten(0, 1), code)
        clip = self.norm_self(clip + self.dropout(y.unflatten(0, clip.shape[:2])))
        query = (clip + code).transpose(1, 2)  # (B, L, O, C)
        y = self.cross_attention(query.flatten(0, 2)[:, None], tokens, place)
        state = self.norm_cross(clip.transpose(1, 2) + self.dropout(y.view_as(query)))
        y = self.linear2(self.dropout(functional.relu(self.linear1(state))))
        return self.norm_mlp(state + self.dropout(y))


class MaskDecoder(nn.Module):
    """Logits of every frame at stride 4, from a query refined over the pyramid (TAM-VT, 3.3)."""

    def __init__(
        self,
        channels: int,
        fine_channels: int,
        layers: int,
        heads: int,
        feedforward: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.ModuleList(
            DecoderLayer(channels, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)
        self.mask_mlp = nn.ModuleList(nn.Linear(channels, channels) for _ in range(3))
        self.mask_features = nn.Conv2d(fine_channels, channels, 3, padding=1)
        self.level_embedding = nn.Parameter(torch.empty(LEVELS, channels))
        self.query = nn.Parameter(torch.randn(channels))
        nn.init.xavier_uniform_(self.level_embedding)

    def forward(
        self, pyramid: Pyramid, clip: tuple[int, int, int], every_layer: bool = False
    ) -> list[Tensor]:
        """Return logits (B, L, O, h, w) at stride 4: the last layer's, or every layer's in order.

        The pyramid's maps are (X, C, h, w); `clip` is (B, L, O).
        """
        coarse = (pyramid.s32, pyramid.s16, pyramid.s8)
        levels = [tokens_of(feature) for feature in coarse]
        places = [sine_position(feature, self.channels) for feature in coarse]
        code = self.query + frame_code(clip[1], self.channels, self.query)
        state = code.new_zeros((*clip, self.channels))
        logits = []
        for index, layer in enumerate(self.layers):
            level = index % LEVELS
            tokens = levels[level] + self.level_embedding[level].to(levels[level].dtype)
            state = layer(state, code, tokens, places[level])
            if every_layer or index == len(self.layers) - 1:
                logits.append(self.predict_masks(state, pyramid.s4))
        return logits

    def predict_masks(self, state: Tensor, fine: Tensor) -> Tensor:
        """Return logits (B, L, O, h, w): each query takes the mask-feature convolution in.

        One output channel instead of C: the nine taps are nine products with the stride-4 map,
        shifted and added, since the convolution is linear and a frame has one query.
        """
        token = self.norm(state)
        for linear in self.mask_mlp[:-1]:
            token = functional.relu(linear(token))
        token = self.mask_mlp[-1](token).flatten(0, 2)  # (X, C)
        kernel = self.mask_features.weight.flatten(1)  # (C, c * 9)
        taps = (token @ kernel.to(token.dtype)).unflatten(1, (-1, 9)).transpose(1, 2)  # (X, 9, c)
        height, width = fine.shape[-2:]
        planes = (taps.to(fine.dtype) @ fine.flatten(2)).unflatten(2, (height, width)).float()
        planes = functional.pad(planes, (1, 1, 1, 1))
        bias = self.mask_features.get_parameter("bias")
        offset = (token @ bias.to(token.dtype)).float()
        logits = offset[:, None, None] + sum(
            planes[:, 3 * y + x, y : y + height, x : x + width] for y in range(3) for x in range(3)
        )
        return logits.unflatten(0, state.shape[:3])
