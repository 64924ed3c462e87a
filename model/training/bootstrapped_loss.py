"""The loss of QMVOS and XMem: bootstrapped cross-entropy and dice of aggregated masks.

F frames, O objects, H and W the size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Bootstrapping:
    """Which share of a frame's pixels counts: all at first, then ever fewer, the hardest ones."""

    begin: int = 10_000
    end: int = 40_000
    share: float = 0.15

    def schedule_share(self, step: int) -> float:
        """Return the share of a frame's pixels that counts at a step."""
        if step < self.begin:
            return 1.0
        if step >= self.end:
            return self.share
        return self.share + (1 - self.share) * (self.end - step) / (self.end - self.begin)


def bootstrapped_loss(
    logits: Tensor, target: Tensor, *, step: int, bootstrapping: Bootstrapping | None = None
) -> tuple[Tensor, Tensor]:
    """Return cross-entropy and dice of each frame, (F,) both; the loss is the sum of all.

    logits (F, O + 1, H, W) after soft aggregation, background first; target (F, H, W), 0 to O.
    Cross-entropy is the mean over the hardest pixels; dice, the mean over object slots, counts
    unused ones too, as published.
    """
    share = (bootstrapping or Bootstrapping()).schedule_share(step)
    each = functional.cross_entropy(logits, target, reduction="none").flatten(1)
    hardest = each if share == 1 else each.topk(int(share * each.shape[1]), dim=1).values
    soft = logits.softmax(dim=1)[:, 1:].flatten(2)
    ids = torch.arange(1, logits.shape[1], device=target.device)[:, None, None]
    truth = (target[:, None] == ids).to(soft.dtype).flatten(2)
    overlap = (soft * truth).sum(dim=2)
    dice = 1 - (2 * overlap + 1) / (soft.sum(dim=2) + truth.sum(dim=2) + 1)
    return hardest.mean(dim=1), dice.mean(dim=1)
