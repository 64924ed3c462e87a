"""Matching at one scale: what the memory knows about every place of a frame (TAM-VT, eq. 1 and 2).

B sessions, L frames of a clip, N entries, O objects, T tokens of a map, C channels, P heads.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

EMPTY = -1e4  # added to the logits of an empty slot: its weight becomes exactly 0 in fp32
LEAST_MASS = 1e-6

# query (B, Q, P * d), key (B, K, P * d), value (B, K, P * v), heads, dropout -> (B, Q, P * v)
Attend = Callable[[Tensor, Tensor, Tensor, int, float], Tensor]


class Recency(NamedTuple):
    """What matching must know about the bank's slots."""

    factor: Tensor  # (B, N) relative time encoding of each entry, 0 in empty slots
    present: Tensor | None  # (B, N) slots that hold an entry; None: all do
    entry_valid: Tensor | None  # (B, O, N) entries that know the object; None: all know all
    bias: Tensor | None = None  # (B, N) what is added to each entry's logits; None: nothing

    @property
    def beside_keys(self) -> Tensor | None:
        """What every key of an entry carries in a channel of its own, (B, N); None: nothing."""
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
        self.attend: Attend = fused_attention  # the export puts its runtime's own in place
        self.norm = nn.LayerNorm(channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key = nn.Linear(channels, channels, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.output_norm = nn.LayerNorm(channels)
        self.output = nn.Linear(channels, channels, bias=False)

    def project_key(self, tokens: Tensor) -> Tensor:
        """Keys (B, T, C) of an entry's image tokens (B, T, C)."""
        return self.key(self.norm(tokens))

    def project_value(self, tokens: Tensor) -> Tensor:
        """Values (B, O, T, C) of an entry's mask tokens (B, O, T, C)."""
        return self.value(tokens)

    def forward(self, tokens: Tensor, keys: Tensor, values: Tensor, recency: Recency) -> Tensor:
        """What every object's memory says at each token, (B, L, O, T, C).

        tokens (B, L, T, C), keys (B, N, T, C), values (B, N, O, T, C). Attention weights are
        computed once and shared by all objects.
        """
        batch, length, count, _ = tokens.shape
        objects = values.shape[2]
        query = self.query(self.norm(tokens)).flatten(1, 2)  # (B, L * T, C)
        if recency.beside_keys is not None:
            query = self.beside(query, query.new_ones(1).expand(batch, query.shape[1]))
        key = self.timed_keys(keys, recency)
        value = self.joined_values(values, recency)
        dropout = self.dropout if self.training else 0.0
        read = self.attend(query, key, value, self.heads, dropout)
        read = read.reshape(batch, length, count, self.heads, objects, -1)
        if recency.entry_valid is not None:
            shape = (batch, length, count, self.heads, objects)
            mass = known_mass(query, key, recency.present, recency.entry_valid, shape)
            read = read / mass.clamp(min=LEAST_MASS)[..., None]
        read = read.permute(0, 1, 4, 2, 3, 5)  # (B, L, O, T, P, C / P)
        y = self.output_norm(read.reshape(batch, length, objects, count, self.channels))
        return y + functional.gelu(self.output(y))

    def beside(self, tokens: Tensor, channel: Tensor) -> Tensor:
        """Tokens (B, T, C) with one more channel (B, T) at the end of each head."""
        split = tokens.unflatten(2, (self.heads, -1))
        more = channel[:, :, None, None].expand(-1, -1, self.heads, 1)
        return torch.cat((split, more.to(tokens.dtype)), dim=-1).flatten(2)

    def timed_keys(self, keys: Tensor, recency: Recency) -> Tensor:
        """Keys (B, N * T, C) times their time factor, with the logits' scale folded in.

        E * (Q K^T) = Q (E * K)^T, since E is one scalar for each entry. Where slots may be empty or
        logits are added to, one more channel a head carries that, so that no mask is needed.
        """
        factor = recency.factor[:, :, None, None] * self.channels**-0.5
        key = (keys * factor.to(keys.dtype)).flatten(1, 2)
        added = recency.beside_keys
        return key if added is None else self.beside(key, token_wise(added, keys))

    def joined_values(self, values: Tensor, recency: Recency) -> Tensor:
        """Values of all objects side by side in each head, (B, N * T, P * O * C / P).

        They are 0 in entries that do not know the object.
        """
        if recency.entry_valid is not None:
            known = recency.entry_valid.transpose(1, 2).to(values.dtype)  # (B, N, O)
            values = values * known[:, :, :, None, None]
        value = values.unflatten(4, (self.heads, -1)).permute(0, 1, 3, 4, 2, 5)
        return value.flatten(1, 2).flatten(2)  # (B, N, T, P, O, C / P) ->


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, heads: int, dropout: float
) -> Tensor:
    """PyTorch's, of queries (B, Q, P * d), keys (B, K, P * d) and values (B, K, P * v)."""
    q, k, v = (tensor.unflatten(2, (heads, -1)).transpose(1, 2) for tensor in (query, key, value))
    read = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
    return read.transpose(1, 2).flatten(2)


def known_mass(
    query: Tensor, key: Tensor, present: Tensor | None, valid: Tensor, shape: tuple[int, ...]
) -> Tensor:
    """The attention mass on entries that know an object, (B, L, T, P, O) = `shape`.

    It is 1 where every entry knows every object, which is nearly always: a second pass of
    attention is spent on it only otherwise.
    """
    heads, tokens = shape[3], key.shape[1] // valid.shape[2]

    def one(query: Tensor, key: Tensor, valid: Tensor, nothing: Tensor) -> Tensor:
        return nothing + 1

    def part(query: Tensor, key: Tensor, valid: Tensor, nothing: Tensor) -> Tensor:
        known = valid.transpose(1, 2).to(query.dtype)[:, :, None, None]  # (B, N, 1, 1, O)
        known = known.expand(-1, -1, tokens, heads, -1).flatten(1, 2).flatten(2)
        return nothing + fused_attention(query, key, known, heads, 0.0).flatten(0, 1)

    # Both branches add to one tensor: the exporter wants equal and simple strides of them.
    nothing = query.new_zeros((query.shape[0] * query.shape[1], heads * valid.shape[1]))
    expected = True if present is None else present[:, None]
    # An object that no entry knows is padding: its readout is zero whatever it is divided by.
    full = (valid.eq(expected) | ~valid.any(dim=2, keepdim=True)).all()
    if torch.compiler.is_exporting():
        return torch.cond(full, one, part, (query, key, valid, nothing)).reshape(shape)
    return (one if full else part)(query, key, valid, nothing).reshape(shape)


def token_wise(per_entry: Tensor, keys: Tensor) -> Tensor:
    """(B, N) -> (B, N * T), T being that of keys (B, N, T, C)."""
    return per_entry[:, :, None].expand(-1, -1, keys.shape[2]).flatten(1)
