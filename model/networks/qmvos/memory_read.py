"""The memory read: an anisotropic similarity that all objects share (XMem, eq. 2 and 3).

`s = -shrinkage * sum_c selection_c (key_c - query_c)^2 / sqrt(K)`, as one product of vectors of
2 K + 1 numbers, so that what computes attention computes it.

B sessions, L frames of a clip, N entries, O objects, T tokens, K and V channels.
"""

import torch
from torch import Tensor

from model.networks.base import Bank


def read_memory(query: Tensor, selection: Tensor, bank: Bank, top_k: int | None) -> Tensor:
    """Return what every object's memory says at each place, (B, O, Q, V).

    query and selection (B, Q, K). An object reads only the entries that know it, with a softmax
    (over its `top_k` largest) of its own; one that no entry knows reads something finite.
    """
    similarity = measure_similarity(query, selection, bank)  # (B, Q, N * T)
    values = bank.tensors["value_s16"].to(query.dtype).transpose(1, 2)  # (B, O, N, T, V)
    tokens = values.shape[3]
    hidden = bank.hide_entries()
    if hidden is None:
        weights = weigh_tokens(similarity, top_k)[:, None]
    else:
        each = hidden[..., None].expand(-1, -1, -1, tokens)
        unread = each.flatten(2)[:, :, None]  # (B, O or 1, 1, N * T)
        weights = weigh_tokens(similarity[:, None] + unread, top_k)
    return weights @ values.flatten(2, 3)


def measure_similarity(query: Tensor, selection: Tensor, bank: Bank) -> Tensor:
    """Return how alike each place that asks and each of the bank's are, (B, Q, N * T)."""
    keys = bank.tensors["key_s16"].to(query.dtype).flatten(1, 2)  # (B, N * T, K)
    shrinkage = bank.tensors["shrinkage_s16"].to(query.dtype).flatten(1, 2)  # (B, N * T, 1)
    return measure_likeness(query, selection, keys, shrinkage)


def measure_likeness(query: Tensor, selection: Tensor, keys: Tensor, shrinkage: Tensor) -> Tensor:
    """Return how alike places that ask (B, Q, K) and keys (B, M, K) are, (B, Q, M)."""
    factor = shrinkage * query.shape[2] ** -0.5
    remembered = torch.cat((-factor * keys**2, 2 * factor * keys, -factor), dim=2)
    weighed = query * selection
    asked = torch.cat((selection, weighed, (query * weighed).sum(dim=2, keepdim=True)), dim=2)
    return asked @ remembered.transpose(1, 2)


def weigh_tokens(similarity: Tensor, top_k: int | None) -> Tensor:
    """Return the softmax of the `top_k` largest along the last axis, 0 elsewhere; None: of all."""
    if top_k is None or top_k >= similarity.shape[-1]:
        return similarity.softmax(dim=-1)
    largest, places = similarity.topk(top_k, dim=-1)
    return torch.zeros_like(similarity).scatter(-1, places, largest.softmax(dim=-1))
