"""What the two served graphs compute: the verbs of the model on whole arrays, rounding included.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, H and W the size.
"""

import torch
from torch import Tensor, nn

from model.networks.tamvt.model import Bank, Entry, TamVT, soft_masks


class Memorize(nn.Module):
    """frame uint8 (B, H, W, 3) and masks uint8 (B, O, H, W) to one entry, fp16."""

    def __init__(self, model: TamVT) -> None:
        super().__init__()
        self.model = model

    def forward(self, frame: Tensor, masks: Tensor) -> tuple[Tensor, ...]:
        seen = self.model.look(self.model.normalize(frame))
        return halves(self.model.memorize(seen, masks.float() / 255))


class Segment(nn.Module):
    """A clip's frames and the bank to masks, confidence, and the entry of the clip's last frame."""

    def __init__(self, model: TamVT) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        frames: Tensor,
        key_s32: Tensor,
        value_s32: Tensor,
        key_s16: Tensor,
        value_s16: Tensor,
        age: Tensor,
        entry_valid: Tensor,
    ) -> tuple[Tensor, ...]:
        batch, length, height, width = frames.shape[:4]
        bank = Bank(key_s32.float(), value_s32.float(), key_s16.float(), value_s16.float())
        recency = self.model.timed(age, age >= 0, entry_valid)
        seen = self.model.look(self.model.normalize(frames.flatten(0, 1)))
        logits = self.model.segment(seen, bank, recency)[-1]
        soft = soft_masks(logits, (height, width))
        known = entry_valid.any(dim=2)[:, None, :, None, None]
        masks = torch.round(torch.where(known, soft, 0.0) * 255)  # (B, L, O, H, W)
        last = seen.at(torch.arange(batch, device=frames.device) * length + (length - 1))
        entry = self.model.memorize(last, masks[:, -1] / 255)
        return (masks.to(torch.uint8), confidence(masks), *halves(entry))


def confidence(masks: Tensor) -> Tensor:
    """Mean soft value, 0 to 1, over pixels of at least 128; 0 where there are none: (B, L, O)."""
    inside = (masks >= 128).float()
    total = (masks * inside).sum(dim=(-2, -1)) / 255
    return total / inside.sum(dim=(-2, -1)).clamp(min=1)


def halves(entry: Entry) -> tuple[Tensor, ...]:
    """The entry's tensors in fp16."""
    return tuple(tensor.half() for tensor in entry)
