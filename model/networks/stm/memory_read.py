"""The space-time memory read: each object looks up every place in its own memory (STM, eq. 1 to 3).

B sessions, L frames of a clip, N entries, O objects, T tokens, K and V channels of keys and values.
"""

import torch
from torch import Tensor
from torch.nn import functional

from model.networks.base import Bank

UNREAD = -1e4  # added to the logits of what is not read: its weight becomes exactly 0 in fp32


def read_memory(query: Tensor, bank: Bank) -> Tensor:
    """Return what every object's memory says at each place, (B, L, O, T, V).

    query (B, L, T, K). The bank's keys are (B, N, O, T, K), its values (B, N, O, T, V): keys belong
    to an object, so that attention cannot be shared between objects. An object that no entry knows
    reads the mean of all entries, and is masked where its logits are made.
    """
    batch, length, count, _ = query.shape
    keys = bank.tensors["key_s16"].to(query.dtype).transpose(1, 2)  # (B, O, N, T, K)
    values = bank.tensors["value_s16"].to(query.dtype).transpose(1, 2)
    objects = keys.shape[1]
    asked = query.flatten(1, 2)[:, None].expand(-1, objects, -1, -1)  # (B, O, L * T, K)
    hidden, mask = hide_entries(bank), None
    if hidden is not None:
        each = hidden.to(query.dtype)[..., None].expand(-1, objects, -1, keys.shape[3])
        mask = each.flatten(2)[:, :, None]  # (B, O, 1, N * T)
    read = functional.scaled_dot_product_attention(
        asked, keys.flatten(2, 3), values.flatten(2, 3), attn_mask=mask
    )
    return read.reshape(batch, objects, length, count, -1).transpose(1, 2)


def hide_entries(bank: Bank) -> Tensor | None:
    """Return what is added to the logits of each entry, (B, O or 1, N); None where all are read."""
    known = bank.entry_valid
    if bank.present is not None:
        present = bank.present[:, None]
        known = present if known is None else known & present
    if known is None:
        return None
    return torch.where(known, 0.0, UNREAD)
