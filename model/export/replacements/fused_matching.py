"""Matching by ONNX Runtime's own attention kernel, and a second pass only where it is needed."""

import torch
from torch import Tensor, nn

from model.networks.tamvt.matching import Matching, all_known, sum_known_mass


class FusedMatching(Matching):
    """A matching that is traced for ONNX Runtime: in blocks, its weights never whole in memory."""

    def __init__(self, matching: Matching) -> None:
        nn.Module.__init__(self)
        self.channels, self.heads, self.dropout = matching.channels, matching.heads, 0.0
        for name, part in matching.named_children():
            self.add_module(name, part)

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            "com.microsoft::MultiHeadAttention",
            (query, key, value),
            {"num_heads": self.heads, "scale": 1.0},
            dtype=query.dtype,
            shape=(query.shape[0], query.shape[1], value.shape[2]),
            version=1,
        )

    def measure_known_mass(
        self, query: Tensor, key: Tensor, present: Tensor | None, valid: Tensor
    ) -> Tensor:
        heads = self.heads

        def fill_with_ones(query: Tensor, key: Tensor, valid: Tensor, zeros: Tensor) -> Tensor:
            return zeros + 1

        def sum_mass(query: Tensor, key: Tensor, valid: Tensor, zeros: Tensor) -> Tensor:
            return zeros + sum_known_mass(query, key, valid, heads)

        # Both branches add to one tensor: the exporter wants equal and simple strides of them.
        zeros = query.new_zeros((query.shape[0] * query.shape[1], heads * valid.shape[1]))
        operands = (query, key, valid, zeros)
        return torch.cond(all_known(present, valid), fill_with_ones, sum_mass, operands)
