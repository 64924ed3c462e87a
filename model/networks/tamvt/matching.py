"""Matching at one scale: what the memory knows about every place of a frame (TAM-VT, eq. 1 and 2).

B sessions, L frames of a clip, N entries, O objects, T tokens of a map, C channels, P heads.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

EMPTY = -1e4  # added to the logits of an empty slot: its weight becomes exactly 0 in fp32
LEAST_MASS = 1e-6


class Recency(NamedTuple):
    """What matching must know about the bank's slots."""

    factor: Tensor  # (B, N) relative time encoding of each entry, 0 in empty slots
    present: Tensor | None  # (B, N) slots that hold an entry; None: all do
    entry_valid: Tensor | None  # (B, O, N) entries that know the object; None: all know all
    bias: Tensor | None = None  # (B, N) what is added to each entry's logits; None: nothing

    @property
    def beside_keys(self) -> Tensor | None:
        """Return what every key of an entry carries in a channel of its own, (B, N).

        None: nothing.
        """
        if self.present is None:
            return self.bias
        return torch.where(self.present, 0.0 if self.bias is None else self.bias, EMPTY)


class Matching(nn.Module):
    """Attention from a frame's tokens to those of all entries, whose values are masks alone.

    Query and key pass the same LayerNorm; logits are divided by the square root of the full width;
    there is no skip connection from the query.
    """

    def __init__(self, channels: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.channels, self.heads, self.dropout = channels, heads, dropout
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.output_norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, channels, bias=False)

    def project_key(self, tokens: Tensor) -> Tensor:
        """Return keys (B, T, C) of an entry's image tokens (B, T, C)."""
        return self.key(self.norm(tokens))

    def project_value(self, tokens: Tensor) -> Tensor:
        """Return values (B, O, T, C) of an entry's mask tokens (B, O, T, C)."""
        return self.value(tokens)

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor, recency: Recency) -> Tensor:
        """Return what every object's memory says at each token, (B, L, O, T, C).

        tokens (B, L, T, C), keys (B, N, T, C), values (B, N, O, T, C). Attention weights are
        computed once and shared by all objects.
        """
        batch, length, count, _ = tokens.shape
        objects = values.shape[2]
        query = self.query(self.norm(tokens)).flatten(1, 2)  # (B, L * T, C)
        if recency.beside_keys is not None:
            query = self.widen_heads(query, query.new_ones(1).expand(batch, query.shape[1]))
        key = self.weigh_keys(keys, recency)
        value = self.join_values(values, recency)
        read = self.attend(query, key, value)
        read = read.reshape(batch, length, count, self.heads, objects, -1)
        if recency.entry_valid is not None:
            shape = (batch, length, count, self.heads, objects)
            mass = self.measure_known_mass(query, key, recency.present, recency.entry_valid)
            read = read / mass.reshape(shape).clamp(min=LEAST_MASS)[..., None]
        read = read.permute(0, 1, 4, 2, 3, 5)  # (B, L, O, T, P, C / P)
        y = self.output_norm(read.reshape(batch, length, objects, count, self.channels))
        return y + functional.gelu(self.output(y))

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Return the readout (B, Q, P * v) of queries (B, Q, P * d).

        Keys are (B, K, P * d) with the logits' scale in them, values (B, K, P * v).
        """
        dropout = self.dropout if self.training else 0.0
        return fuse_attention(query, key, value, self.heads, dropout)

    def measure_known_mass(
        self, query: Tensor, key: Tensor, present: Tensor | None, valid: Tensor
    ) -> Tensor:
        """Return the attention mass on entries that know an object, (B * Q, P * O).

        It is 1 where every entry knows every object, which is nearly always: a second pass of
        attention is spent on it only otherwise.
        """
        if all_known(present, valid):
            return query.new_ones((query.shape[0] * query.shape[1], self.heads * valid.shape[1]))
        return sum_known_mass(query, key, valid, self.heads)

    def attend_from(self, token: Tensor, keys: Tensor, recency: Recency) -> Tensor:
        """Return how much one token (C,) looks at those of keys (N, T, C), (N * T,).

        The mean over heads, for the first session of `recency`.
        """
        query = self.query(self.norm(token)).unflatten(0, (self.heads, -1))  # (P, C / P)
        factor = recency.factor[0] * self.channels**-0.5
        weighed = (keys * factor[:, None, None]).flatten(0, 1).unflatten(1, (self.heads, -1))
        logits = torch.einsum("pc,npc->pn", query, weighed)
        if recency.bias is not None:
            logits = logits + recency.bias[0].repeat_interleave(keys.shape[1])
        return logits.softmax(dim=-1).mean(dim=0)

    def widen_heads(self, tokens: Tensor, channel: Tensor) -> Tensor:
        """Return tokens (B, T, C) with one more channel (B, T) at the end of each head."""
        split = tokens.unflatten(2, (self.heads, -1))
        more = channel[:, :, None, None].expand(-1, -1, self.heads, 1)
        return torch.cat((split, more.to(tokens.dtype)), dim=-1).flatten(2)

    def weigh_keys(self, keys: Tensor, recency: Recency) -> Tensor:
        """Return keys (B, N * T, C) times their time factor, with the logits' scale folded in.

        E * (Q K^T) = Q (E * K)^T, since E is one scalar for each entry. Where slots may be empty or
        logits are added to, one more channel a head carries that, so that no mask is needed.
        """
        factor = recency.factor[:, :, None, None] * self.channels**-0.5
        key = (keys * factor.to(keys.dtype)).flatten(1, 2)
        added = recency.beside_keys
        if added is None:
            return key
        per_token = added[:, :, None].expand(-1, -1, keys.shape[2]).flatten(1)  # (B, N * T)
        return self.widen_heads(key, per_token)

    def join_values(self, values: Tensor, recency: Recency) -> Tensor:
        """Return values of all objects side by side in each head, (B, N * T, P * O * C / P).

        They are 0 in entries that do not know the object.
        """
        if recency.entry_valid is not None:
            known = recency.entry_valid.transpose(1, 2).to(values.dtype)  # (B, N, O)
            values = values * known[:, :, :, None, None]
        value = values.unflatten(4, (self.heads, -1)).permute(0, 1, 3, 4, 2, 5)
        return value.flatten(1, 2).flatten(2)  # (B, N, T, P, O, C / P) ->


def fuse_attention(query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float) -> Tensor:
    """Return PyTorch's attention of (B, Q, P * d), (B, K, P * d) and (B, K, P * v)."""
    q, k, v = (tensor.unflatten(2, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    read = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
    return read.transpose(1, 2).flatten(2)


def all_known(present: Tensor | None, valid: Tensor) -> Tensor:
    """Return whether every entry that is present (B, N) knows every object (B, O, N), a scalar."""
    expected = True if present is None else present[:, None]
    # An object that no entry knows is padding: its readout is zero whatever it is divided by.
    return (valid.eq(expected) | ~valid.any(dim=2, keepdim=True)).all()


def sum_known_mass(query: Tensor, key: Tensor, valid: Tensor, heads: int) -> Tensor:
    """Return the attention mass on entries that know an object, (B * Q, P * O), by attention."""
    tokens = key.shape[1] // valid.shape[2]
    known = valid.transpose(1, 2).to(query.dtype)[:, :, None, None]  # (B, N, 1, 1, O)
    known = known.expand(-1, -1, tokens, heads, -1).flatten(1, 2).flatten(2)
    return fuse_attention(query, key, known, heads, 0.0).flatten(0, 1)
