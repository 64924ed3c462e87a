"""Blocks in which tokens look at each other, pre-norm, with one projection to query, key and value.

B sessions, L frames of a clip, N entries, O objects, T tokens of stride 16, C channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN = -1e4  # added to the logits of what is not looked at: its weight becomes exactly 0 in fp32


class BlockView(NamedTuple):
    """What others see of some tokens in one block, each (B, ..., C)."""

    key: Tensor
    value: Tensor


class Block(nn.Module):
    """Attention and an MLP. Who looks at whom is said by the keys and values that are handed in."""

    def __init__(self, channels: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(channels)
        self.project = nn.Linear(channels, 3 * channels)
        self.output = nn.Linear(channels, channels)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, feedforward), nn.GELU(), nn.Linear(feedforward, channels)
        )

    def look(self, tokens: Tensor) -> tuple[Tensor, BlockView]:
        """Return queries (B, Q, C), and what others see of these tokens (B, Q, C)."""
        query, key, value = self.project(self.norm_attention(tokens)).chunk(3, dim=-1)
        return query, BlockView(key, value)

    def update(self, tokens: Tensor, query: Tensor, seen: BlockView, mask: Tensor | None) -> Tensor:
        """Return tokens (B, Q, C) after they looked at `seen` (B, M, C).

        `mask` (B, 1 or Q, M) is added to the logits.
        """
        parts = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, *seen))
        q, k, v = parts  # (B, P, ..., C / P)
        logits = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        if mask is not None:
            logits = logits + mask[:, None]
        read = (logits.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        tokens = tokens + self.output(read)
        return tokens + self.mlp(self.norm_mlp(tokens))


def associate_reference(
    blocks: nn.ModuleList, reference: Tensor, objects: Tensor, exists: Tensor
) -> tuple[list[BlockView], list[BlockView], Tensor]:
    """Return what each block shows of a reference (B, T, C) and its objects (B, O, C).

    Objects look at objects and their reference, a reference at itself and the objects; `exists`
    (B, O) tells slots with an object, which alone are looked at. The last value is the reference's
    tokens behind the last block.
    """
    hidden = torch.where(exists, 0.0, HIDDEN)[:, None]  # (B, 1, O)
    mask = functional.pad(hidden, (reference.shape[1], 0))  # (B, 1, T + O)
    of_reference, of_objects = [], []
    for block in blocks:
        assert isinstance(block, Block)
        query, seen = block.look(reference)
        asked, known = block.look(objects)
        both = BlockView(*(torch.cat(pair, dim=1) for pair in zip(seen, known, strict=True)))
        reference = block.update(reference, query, both, mask)
        objects = block.update(objects, asked, both, mask)
        of_reference.append(seen)
        of_objects.append(known)
    return of_reference, of_objects, reference


def associate_test(
    blocks: nn.ModuleList, test: Tensor, memory: list[BlockView], mask: Tensor
) -> Tensor:
    """Return the tokens of a test frame (B, T, C) that looked at itself and at the memory.

    `memory` is each block's view of all entries and their objects, (B, M, C); `mask` (B, 1, M).
    """
    mask = functional.pad(mask, (test.shape[1], 0))
    for block, stored in zip(blocks, memory, strict=True):
        assert isinstance(block, Block)
        query, own = block.look(test)
        both = BlockView(*(torch.cat(pair, dim=1) for pair in zip(own, stored, strict=True)))
        test = block.update(test, query, both, mask)
    return test
