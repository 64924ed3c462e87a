"""What the two served graphs compute: a network's verbs on whole arrays, rounding included.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, H and W the size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.networks.base import Bank, Tensors, TrackingNetwork, raise_logits, take_frames


class Memorize(nn.Module):
    """Makes one entry of a frame uint8 (B, H, W, 3) and masks uint8 (B, O, H, W)."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.model = network  # the name that the graphs' constants begin with

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the entry's tensors in the order of the network's description, and its state's.

        `inputs` are the frame, the masks and the tensors of the state before it.
        """
        frame, masks, *before = inputs
        features = self.model.encode_frames(self.model.normalize(frame))
        state = read_state(self.model, before)
        entry, after = self.model.memorize(features, masks.float() / 255, state)
        return *store_entry(self.model, entry), *store_state(self.model, after)


class Segment(nn.Module):
    """Makes masks, confidence and the last frame's entry of a clip and the bank."""

    def __init__(self, network: TrackingNetwork) -> None:
        super().__init__()
        self.model = network
        self.bias = network.config.loop_bias
        if not self.bias.together:
            table = torch.from_numpy(self.bias.table()).float()
            self.register_buffer("remembered", table, persistent=False)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return masks uint8 (B, L, O, H, W), confidence (B, L, O), the entry and the state.

        `inputs` are frames uint8 (B, L, H, W, 3), the bank's tensors, the state's, age (B, N) and
        entry_valid (B, O, N). There is no entry where `memorize` is to make it.
        """
        frames, *stored, age, entry_valid = inputs
        parts = len(self.model.bank_tensors)
        batch, length, height, width = frames.shape[:4]
        names = (tensor.name for tensor in self.model.bank_tensors)
        tensors = {name: value.float() for name, value in zip(names, stored[:parts], strict=True)}
        state = read_state(self.model, stored[parts:])
        bank = Bank(tensors, age, present=age >= 0, entry_valid=entry_valid, state=state)
        features = self.model.encode_frames(self.model.normalize(frames.flatten(0, 1)))
        segmented = self.model.segment(features, bank)
        logits = segmented.logits[-1]
        if self.bias.answer:
            logits = logits + self.bias.answer
        known = entry_valid.any(dim=2)
        soft = self.model.soften(raise_logits(logits, (height, width)), known)
        soft = torch.where(known[:, None, :, None, None], soft, 0.0)
        masks = torch.round(soft * 255)  # (B, L, O, H, W)
        made: tuple[Tensor, ...] = ()
        if self.model.config.entry_by == "segment":
            index = torch.arange(batch, device=frames.device) * length + (length - 1)
            last, remembered = take_frames(features, index), masks[:, -1]
            if not self.bias.together:  # in whole numbers, as a service does with what it stores
                remembered = self.get_buffer("remembered")[remembered.long()]
            entry, _ = self.model.memorize(last, remembered / 255)
            made = store_entry(self.model, entry)
        return (
            masks.to(torch.uint8),
            measure_confidence(masks),
            *made,
            *store_state(self.model, segmented.state),
        )


def measure_confidence(masks: Tensor) -> Tensor:
    """Return the mean soft value, 0 to 1, over pixels of at least 128, (B, L, O).

    It is 0 where there are none.
    """
    inside = (masks >= 128).float()
    total = (masks * inside).sum(dim=(-2, -1)) / 255
    return total / inside.sum(dim=(-2, -1)).clamp(min=1)


def read_state(network: TrackingNetwork, stored: Sequence[Tensor]) -> Tensors:
    """Return the state that is stored, by name, in fp32."""
    parts = zip(network.state_tensors, stored, strict=True)
    return {part.name: tensor.float() for part, tensor in parts}


def store_state(network: TrackingNetwork, state: Tensors) -> tuple[Tensor, ...]:
    """Return a state's tensors in the types they are stored in, and in order."""
    return tuple(state[t.name].to(getattr(torch, t.dtype)) for t in network.state_tensors)


def store_entry(network: TrackingNetwork, entry: Tensors) -> tuple[Tensor, ...]:
    """Return an entry's tensors in the bank's types and order."""
    return tuple(entry[t.name].to(getattr(torch, t.dtype)) for t in network.bank_tensors)
