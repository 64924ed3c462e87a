"""What a tracking network is: all that training, export, evaluation and figures know of one.

A network remembers (frame, masks) pairs as entries and segments the next frames with them. It
describes the tensors of an entry by name, so a bank may hold anything: keys and values at two
strides, one token for each object, a tensor that all objects share. A network that carries
something from clip to clip besides its entries (a recurrent state) describes that likewise.

B sessions, L frames of a clip, X frames (B * L), N entries of the bank, O objects, T tokens of a
map, C channels, H and W the input's size, h and w a map's.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from model.core.contract import BankTensor
from model.core.loop_bias import NO_BIAS, LoopBias
from model.core.memory import FIRST_IN_FIRST_OUT, Retention
from model.errors import ModelError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNREAD = -1e4  # added to the logits of what is not read: its weight becomes exactly 0 in fp32
LEAST = 1e-7  # what a probability that is aggregated is kept away from 0 and 1 by
ABSENT = -30.0  # the logit of an object that is not there
CENTERED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # pixels to [-1, 1]

# Tensors by name. An entry's are (B, T, C), or (B, O, T, C) if per object; a bank's have N behind
# B; those of a state are (B, O, T, C).
Tensors = dict[str, Tensor]
# What a network sees in X frames: tensors in tuples, each with X in front. Only it looks inside.
Features = Any


class NetworkError(ModelError, ValueError):
    """A network that does not exist, or that lacks what it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """What every build has: a name, the size it works at, and how its memory is used.

    `normalization` is the mean and deviation of each color. Sessions with an object that is less
    than `fine_below_px` pixels wide are seen at one of the `fine_short_sides`. `memory_size` is the
    number of entries that is served, `trained_memory_size` the largest that training read.
    `retention` says which frames stay; where few do and an entry is dear, `memorize` makes it
    (`entry_by`). `loop_bias` acts in use alone, not in training.
    """

    name: str
    normalization: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
    short_side: int = 480
    fine_short_sides: tuple[int, ...] = ()
    fine_below_px: float = 0.0
    clip_length: int = 2
    max_clip_length: int = 4
    max_objects: int = 32
    memory_size: int = 9
    trained_memory_size: int = 6
    retention: Retention = FIRST_IN_FIRST_OUT
    entry_by: Literal["segment", "memorize"] = "segment"
    weights_license: str = "Apache-2.0"
    loop_bias: LoopBias = NO_BIAS


@dataclass(frozen=True, slots=True)
class Bank:
    """What a network reads to segment a clip: each session's entries in slots, and its state."""

    tensors: Tensors
    age: Tensor  # (B, N) rank by recency: 0 the newest entry, -1 an empty slot
    present: Tensor | None = None  # (B, N) slots that hold an entry; None: all do
    entry_valid: Tensor | None = None  # (B, O, N) entries that know the object; None: all know all
    state: Tensors = field(default_factory=dict)

    def hide_entries(self) -> Tensor | None:
        """Return what is added to the logits of each entry, (B, O or 1, N); None: all are read.

        An entry is hidden from an object that it does not know, an empty slot from all.
        """
        known = self.entry_valid
        if self.present is not None:
            present = self.present[:, None]
            known = present if known is None else known & present
        return None if known is None else torch.where(known, 0.0, UNREAD)

    @classmethod
    def of_entries(cls, entries: Sequence[Tensors], state: Tensors | None = None) -> "Bank":
        """Return a full bank of entries that are given oldest first, the reference at their head.

        Every session has the same number of entries, and every entry knows every object.
        """
        tensors = {
            name: torch.stack([entry[name] for entry in entries], dim=1) for name in entries[0]
        }
        first = next(iter(tensors.values()))
        age = torch.arange(len(entries) - 1, -1, -1, device=first.device)
        return cls(tensors, age.expand(first.shape[0], -1), state=state or {})


class Remembered(NamedTuple):
    """What `memorize` makes: an entry, and the state after it."""

    entry: Tensors
    state: Tensors


class Segmented(NamedTuple):
    """What `segment` makes of a clip."""

    logits: list[Tensor]  # (B, L, O, h, w) at stride 4: the last layer's, or every layer's in order
    state: Tensors  # after the clip's last frame


class TrackingNetwork(nn.Module, ABC):
    """A network with two verbs: `memorize` a frame with its masks, `segment` a clip's frames.

    Parameters of the image backbone start with `backbone.`, those of a time encoding with `time.`.
    """

    aggregated = False  # whether `soften` lets objects compete for pixels
    slots: int | None = None  # how many objects there are weights for; None: all share theirs
    config: NetworkConfig
    backbone: nn.Module
    mean: Tensor
    deviation: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        mean, deviation = (torch.tensor(values)[:, None, None] for values in config.normalization)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    @property
    @abstractmethod
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        """Describe the tensors of an entry, in the order of the graphs' outputs."""

    @property
    def state_tensors(self) -> tuple[BankTensor, ...]:
        """Describe what is carried from clip to clip for each object; nothing for most networks."""
        return ()

    @property
    def trunks(self) -> tuple[nn.Module, ...]:
        """Return what begins with the image backbone's public weights; the backbone is first."""
        return (self.backbone,)

    def normalize(self, frames: Tensor) -> Tensor:
        """Return RGB frames uint8 (X, H, W, 3) as the network's input (X, 3, H, W)."""
        return (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.deviation

    @abstractmethod
    def encode_frames(self, images: Tensor) -> Features:
        """Return the features of normalized images (X, 3, H, W), once for all objects."""

    @abstractmethod
    def memorize(
        self, features: Features, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        """Return the entry of B frames with soft masks (B, O, H, W) in [0, 1].

        `state` is that before the frame; None stands for that of a session's first frame.
        """

    @abstractmethod
    def segment(self, features: Features, bank: Bank, *, every_layer: bool = False) -> Segmented:
        """Return the logits of a clip, whose B * L frames are given session by session.

        They are the last layer's alone, or with `every_layer` those of all layers to train on.
        """

    def soften(self, logits: Tensor, exists: Tensor) -> Tensor:
        """Return the soft masks (B, L, O, H, W) of logits of that size, which is a frame's.

        They are each object's own, unless the network is `aggregated`. `exists` (B, O) tells
        which slots hold an object; the others compete for nothing.
        """
        return logits.sigmoid()

    def compete(self, logits: Tensor, exists: Tensor) -> Tensor:
        """Return what a training compares beside each object's own logits (B, O, L, h, w), in fp32.

        They say which object a pixel is of; those of an object that is alone stay as they are.
        """
        return aggregate_logits(logits, exists)

    def widen_memory(self, entries: int) -> None:
        """Make what was learned for trained memories serve banks of up to so many entries."""

    def rename_published(self, checkpoint: Mapping[str, Tensor]) -> Tensors:
        """Return the authors' state dict under our names; raise NetworkError if it is not one."""
        raise NetworkError(f"{self.config.name} has no checkpoints but ours")

    def attend(self, features: Features, bank: Bank, *, x: float, y: float) -> dict[int, Tensor]:
        """Return how much a point of one frame looks at each entry, by stride, each (N, h, w).

        `x` and `y` are shares of the frame's size. Weights of a stride sum to 1 over all entries.
        """
        raise NetworkError(f"{self.config.name} has no attention to draw")


class PublishedForm(Protocol):
    """A network by the long way of its paper, for one session and one object: a yardstick.

    Images are normalized; an entry is whatever the form remembers.
    """

    def memorize(self, image: Tensor, mask: Tensor) -> Any:
        """Return the entry of an image (1, 3, H, W) and a mask (H, W) in [0, 1]."""

    def segment(self, images: Tensor, entries: Sequence[Any]) -> list[Tensor]:
        """Return the logits (L, h, w) of every layer, from entries that are given oldest first."""


def check_fit(ours: Mapping[str, Tensor], expected: Mapping[str, Tensor], build: str) -> None:
    """Raise NetworkError naming a tensor that is missing, too many or of another shape.

    `ours` are those of a checkpoint under our names, `expected` the state dict of the `build`.
    """
    for name in (*expected, *ours):
        if name not in ours:
            raise NetworkError(f"checkpoint has no key for {name!r}")
        if name not in expected:
            raise NetworkError(f"checkpoint key for {name!r} has no place in {build}")
        if ours[name].shape != expected[name].shape:
            raise NetworkError(
                f"{name!r}: checkpoint has shape {tuple(ours[name].shape)}, "
                f"{build} wants {tuple(expected[name].shape)}"
            )


def take_frames(features: Features, index: Tensor | slice) -> Features:
    """Return the features of some of the frames."""
    return tree_map(lambda tensor: tensor[index], features)


def join_frames(parts: Sequence[Features]) -> Features:
    """Return the features of all frames of the parts, in their order."""
    return tree_map(lambda *tensors: torch.cat(tensors), *parts)


def raise_logits(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return logits (B, L, O, h, w) at `size` = (H, W), bilinear, in fp32."""
    batch = logits.shape[:2]
    full = functional.interpolate(
        logits.flatten(0, 1).float(), size=size, mode="bilinear", align_corners=False
    )
    return full.unflatten(0, batch)


def soft_masks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Return each object's own probabilities of logits (B, L, O, h, w) at `size` = (H, W)."""
    return raise_logits(logits, size).sigmoid()


def aggregate_softly(soft: Tensor, exists: Tensor) -> Tensor:
    """Return aggregated probabilities (B, L, O, H, W) of each object's own (STM, eq. 4).

    The background's is prod(1 - p); odds are divided by the sum of all. What is no object
    (`exists` (B, O)) has none.
    """
    there = exists[:, None, :, None, None]
    soft = torch.where(there, soft, 0.0)
    every = torch.cat(((1 - soft).prod(dim=2, keepdim=True), soft), dim=2)
    every = every.clamp(LEAST, 1 - LEAST)
    odds = every / (1 - every)
    odds = torch.cat((odds[:, :, :1], torch.where(there, odds[:, :, 1:], 0.0)), dim=2)
    return odds[:, :, 1:] / odds.sum(dim=2, keepdim=True)


def aggregate_logits(logits: Tensor, exists: Tensor) -> Tensor:
    """Return half the logits of objects after soft aggregation, (B, O, F', h, w), in fp32.

    The background's probability is prod(1 - p); odds are divided by those of all others and the
    background (STM, Oh et al. 2019, eq. 3). Where one object is alone they are twice its own, so
    half of them are taken: nothing changes where nothing competes. `exists` (B, O) tells which
    slots hold an object; the others do not compete.
    """
    there = exists[:, :, None, None, None]
    logits = logits.masked_fill(~there, ABSENT)
    nothing = functional.logsigmoid(-logits).sum(dim=1, keepdim=True)  # log prod(1 - p)
    background = nothing - torch.log(-torch.expm1(nothing.clamp(max=-LEAST)))
    every = torch.cat((background, logits), dim=1)
    others = [
        torch.cat((every[:, : index + 1], every[:, index + 2 :]), dim=1).logsumexp(dim=1)
        for index in range(logits.shape[1])
    ]
    return (logits - torch.stack(others, dim=1)) / 2


def count_parameters(network: nn.Module) -> int:
    """Return how many numbers are parameters; BatchNorm's are buffers and do not count."""
    return sum(parameter.numel() for parameter in network.parameters())
