"""The space-time memory read: each object looks up every place in its own memory (STM, eq. 1 to 3).

B sessions, L frames of a clip, N entries, O objects, T tokens, K and V channels of keys and values.
"""

from torch import Tensor
from torch.nn import functional

from model.networks.base import Bank


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
    hidden, mask = bank.hide_entries(), None
    if hidden is not None:
        each = hidden.to(query.dtype)[..., None].expand(-1, objects, -1, keys.shape[3])
        mask = each.flatten(2)[:, :, None]  # (B, O, 1, N * T)
    read = functional.scaled_dot_product_attention(
        asked, keys.flatten(2, 3), values.flatten(2, 3), attn_mask=mask
    )
    return read.reshape(batch, objects, length, count, -1).transpose(1, 2)
