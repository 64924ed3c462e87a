"""A model led through training clips as it is led in use, keeping the gradients.

B clips, F frames (the first is the reference), O = 1 object, K decoder layers, H and W the crop,
h and w its size at stride 4.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.losses import LossConfig, training_loss
from model.tamvt import Bank, Entry, Features, TamVT, soft_masks


def clip_logits(
    model: TamVT, frames: Tensor, masks: Tensor, *, recompute: bool = False
) -> list[Tensor]:
    """Logits (B, F - 1, h, w) of every decoder layer.

    `frames` uint8 (B, F, H, W, 3), `masks` float (B, F, H, W), of which only the first is read.
    Frames go through the model clip by clip; what enters the memory is each clip's own last
    prediction, without a gradient. With `recompute`, activations are computed again in the
    backward pass: a third more time, a fraction of the memory.
    """
    count, length = masks.shape[:2]
    size = (masks.shape[2], masks.shape[3])
    images = model.normalise(frames.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
    seen = looked(model, images, recompute)
    place = torch.arange(count * length, device=frames.device).view(count, length)
    # A tuple, since what is computed again must see the entries of then, not those of the end.
    entries: tuple[Entry, ...] = (
        light(recompute, model.memorize, seen.at(place[:, 0]), masks[:, :1]),
    )
    parts: list[list[Tensor]] = []
    step = model.config.clip_length
    for first in range(1, length, step):
        index = place[:, first : first + step]
        clip = seen.at(index.flatten())
        logits = light(recompute, segmented, model, clip, entries)
        parts.append([each[:, :, 0] for each in logits])
        if first + step < length:
            last = seen.at(index[:, -1])
            entries += (light(recompute, remembered, model, last, logits[-1], size),)
    return [torch.cat(layer, dim=1) for layer in zip(*parts, strict=True)]


def looked(model: TamVT, images: Tensor, recompute: bool) -> Features:
    """The features of images (X, 3, H, W): of all at once, or image by image to save memory."""
    if not recompute:
        return model.look(images)
    each = [light(True, model.look, image[None]) for image in images]
    s4, s8, s16, s32 = (torch.cat(maps) for maps in zip(*(one.maps for one in each), strict=True))
    return Features(
        images,
        (s4, s8, s16, s32),
        torch.cat([one.tokens_s32 for one in each]),
        torch.cat([one.tokens_s16 for one in each]),
    )


def segmented(model: TamVT, seen: Features, entries: tuple[Entry, ...]) -> list[Tensor]:
    """Logits (B, L, 1, h, w) of every layer; the entries are given oldest first."""
    bank = Bank(*(torch.stack(tensors, dim=1) for tensors in zip(*entries, strict=True)))
    batch, filled = bank.key_s32.shape[:2]
    age = torch.arange(filled - 1, -1, -1, device=bank.key_s32.device).expand(batch, -1)
    recency = model.timed(age, present=None, entry_valid=None)
    return model.segment(seen, bank, recency, every_layer=True)


def remembered(model: TamVT, seen: Features, logits: Tensor, size: tuple[int, int]) -> Entry:
    """The entry of a clip's last frame, with its predicted masks."""
    return model.memorize(seen, soft_masks(logits[:, -1:].detach(), size)[:, 0])


def light(recompute: bool, function: Any, *inputs: Any) -> Any:
    """`function(*inputs)`, whose activations are computed again in the backward pass if asked."""
    if not recompute:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)


class ClipLoss(nn.Module):
    """A model with its loss, so that one call is one forward pass (which `torchrun` spreads)."""

    def __init__(self, model: TamVT, config: LossConfig, *, recompute: bool = False) -> None:
        super().__init__()
        self.model, self.config, self.recompute = model, config, recompute

    def forward(
        self, frames: Tensor, masks: Tensor, hard_share: float, half: bool
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the last layer's logits (B, F - 1, h, w).

        frames uint8 (B, F, H, W, 3), masks uint8 (B, F, H, W); `half` computes in bfloat16.
        """
        target = masks.float()
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=half):
            layers = clip_logits(self.model, frames, target, recompute=self.recompute)
        loss = training_loss(layers, target[:, 1:], self.config, hard_share=hard_share)
        return loss, layers[-1].detach()
