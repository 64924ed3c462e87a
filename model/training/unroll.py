"""A network run through training samples as it runs in use, keeping the gradients.

B samples, F frames (the first is the reference), L frames of a clip, X frames, O objects, H and W
the crop, h and w its size at stride 4.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.core.memory import FIRST_IN_FIRST_OUT, MAX_CAPACITY, Memory, Retention
from model.networks.base import (
    Bank,
    Features,
    Segmented,
    Tensors,
    TrackingNetwork,
    join_frames,
    raise_logits,
    take_frames,
)
from model.training.errors import SettingsError
from model.training.losses import LossConfig, training_loss
from model.training.memory_damage import draw_damage

SOME_OBJECT = (1,)  # whose memory is kept: that of all objects of a sample is the same

# Soft masks (B, O, H, W) of clip number n -> what is remembered of them.
Remember = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True, slots=True)
class LoopConfig:
    """How a sample runs through the loop of segmenting and remembering.

    At most `memory_size` entries are kept, the reference and the newest (None: 16). A step runs
    up to `silent_clips` clips without gradient first, so that its memory is as old as in use, and a
    `single_share` of the steps takes clips of one frame. In `damage_share` of the objects what is
    remembered is damaged (`memory_damage`). `keep_every` draws for each step one frame in how many
    is kept, from the first number to the second; it stands for the larger number of a network's
    retention, which a short sample would hardly reach (None: every clip is remembered).

    Over the first `truth_steps` steps of a training the true masks are remembered, in a share of
    the samples that falls from all to none (scheduled sampling, Bengio et al. 2015): what a fresh
    network makes of a frame teaches it nothing about the next one.
    """

    memory_size: int | None = None
    keep_every: tuple[int, int] | None = None
    silent_clips: int = 0
    single_share: float = 0.0
    damage_share: float = 0.0
    truth_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("single_share", "damage_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must lie in 0..1, not {getattr(self, name)}")
        for name in ("silent_clips", "truth_steps"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} must be at least 0, not {getattr(self, name)}")
        if self.memory_size is not None and not 1 <= self.memory_size <= MAX_CAPACITY:
            raise SettingsError(f"memory_size must lie in 1..16, not {self.memory_size}")
        if self.keep_every is not None and not 1 <= self.keep_every[0] <= self.keep_every[1]:
            raise SettingsError(f"keep_every must rise from 1 or more, not {self.keep_every}")

    def draw_retention(self, network: TrackingNetwork) -> Retention:
        """Return which frames a step keeps."""
        if self.keep_every is None:
            return FIRST_IN_FIRST_OUT
        fewest, most = self.keep_every
        every = int(torch.randint(fewest, most + 1, ()))
        return Retention(every, network.config.retention.recent)


def unroll(
    network: TrackingNetwork,
    frames: Tensor,
    masks: Tensor,
    *,
    recompute: bool = False,
    clip_length: int | None = None,
    memory_size: int | None = None,
    retention: Retention = FIRST_IN_FIRST_OUT,
    silent: int = 0,
    remember: Remember = lambda masks, clip: masks,
) -> list[Tensor]:
    """Return logits (B, O, F - 1, h, w) of every layer that is trained on.

    `frames` uint8 (B, F, H, W, 3), `masks` float (B, O, H, W) of the first frame. Frames go through
    the network clip by clip; what enters the memory, where `retention` says so, is what `remember`
    makes of a clip's own last prediction, without a gradient. The first `silent` clips have none at
    all, and no logits: F - 1 counts the frames behind them. With `recompute`, activations are
    computed again in the backward pass: a third more time, a fraction of the memory.
    """
    count, length = frames.shape[:2]
    step = clip_length or network.config.clip_length
    begin = 1 + silent * step
    images = network.normalize(frames.flatten(0, 1)).contiguous(memory_format=torch.channels_last)
    images = images.unflatten(0, (count, length))
    trained = torch.cat((images[:, :1], images[:, begin:]), dim=1)
    features = encode_frames(network, trained.flatten(0, 1), recompute)
    row = torch.arange(count * trained.shape[1], device=frames.device).view(count, -1)
    reference = take_frames(features, row[:, 0])
    entry, state = run_checkpointed(recompute, network.memorize, reference, masks)
    memory = Memory.start(0, SOME_OBJECT, capacity=memory_size or MAX_CAPACITY)
    # A new dict each time: what is computed again must see the entries of then, not the last ones.
    entries: dict[int, Tensors] = {0: entry}
    exists = masks.flatten(2).any(dim=2)  # (B, O)
    parts: list[list[Tensor]] = []
    for number, first in enumerate(range(1, length, step)):
        is_silent = first < begin
        again = recompute and not is_silent
        with torch.no_grad() if is_silent else nullcontext():
            if is_silent:
                clip = network.encode_frames(images[:, first : first + step].flatten(0, 1))
            else:
                own = row[:, first - begin + 1 :][:, :step]  # column 0 is the reference
                clip = take_frames(features, own.flatten())
            before, known = state, tuple(entries[each.frame] for each in memory.entries)
            logits, state = run_checkpointed(again, segment, network, clip, known, before, exists)
            if not is_silent:
                parts.append([each.transpose(1, 2) for each in logits])
            if first + step >= length:
                continue
            after = memory.remember(first + step - 1, SOME_OBJECT, retention)
            if after is not memory:
                soft = remember(take_last_masks(network, logits[-1], exists, frames), number)
                last = take_frames(clip, slice(step - 1, None, step))
                # A frame that is remembered updates the state as it was before the frame.
                entry, state = run_checkpointed(again, network.memorize, last, soft, before)
                entries = {**entries, after.newest.frame: entry}
                memory = after
    return [torch.cat(layer, dim=2) for layer in zip(*parts, strict=True)]


def take_last_masks(
    network: TrackingNetwork, logits: Tensor, exists: Tensor, frames: Tensor
) -> Tensor:
    """Return soft masks (B, O, H, W) of the last of L frames, (B, L, O, h, w); no gradient."""
    size = (frames.shape[2], frames.shape[3])
    return network.soften(raise_logits(logits[:, -1:].detach(), size), exists)[:, 0]


def encode_frames(network: TrackingNetwork, images: Tensor, recompute: bool) -> Features:
    """Return the features of images (X, 3, H, W), encoded one by one where memory is saved."""
    if not recompute:
        return network.encode_frames(images)
    return join_frames(
        [run_checkpointed(True, network.encode_frames, image[None]) for image in images]
    )


def segment(
    network: TrackingNetwork,
    features: Features,
    entries: tuple[Tensors, ...],
    state: Tensors,
    exists: Tensor,
) -> Segmented:
    """Return the logits of every layer from entries that are given oldest first.

    A network whose objects compete must know which slots hold one: `exists` (B, O).
    """
    bank = Bank.of_entries(entries, state)
    if network.aggregated:
        valid = exists[:, :, None].expand(-1, -1, len(entries))
        bank = replace(bank, entry_valid=valid)
    return network.segment(features, bank, every_layer=True)


def run_checkpointed(recompute: bool, function: Any, *inputs: Any) -> Any:
    """Return `function(*inputs)`, its activations computed again in the backward pass if asked."""
    if not recompute:
        return function(*inputs)
    return checkpoint(function, *inputs, use_reentrant=False)


def remember_truth(truth: Tensor, told: Tensor, *, otherwise: Remember) -> Remember:
    """Return what remembers `truth` (B, O, clips, H, W) in the samples `told` (B,)."""
    chosen = told[:, None, None, None]
    return lambda soft, clip: torch.where(chosen, truth[:, :, clip], otherwise(soft, clip))


class SampleLoss(nn.Module):
    """A network with its loss, so that one call is one forward pass (which `torchrun` spreads)."""

    def __init__(
        self,
        network: TrackingNetwork,
        config: LossConfig,
        *,
        recompute: bool = False,
        loop: LoopConfig | None = None,
    ) -> None:
        super().__init__()
        self.network, self.config, self.recompute = network, config, recompute
        self.loop = loop or LoopConfig()

    def forward(
        self,
        frames: Tensor,
        masks: Tensor,
        hard_share: float,
        half: bool,
        objects: int = 1,
        truth_share: float = 0.0,
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and of the F' frames that count the strongest logits (B, F', h, w).

        frames uint8 (B, F, H, W, 3), masks uint8 (B, F, H, W) of labels 0 to `objects`; `half`
        computes in bfloat16. In a `truth_share` of the samples the true masks are remembered.
        Objects that a sample does not have do not count.
        """
        labels = torch.arange(1, objects + 1, device=masks.device)
        target = (masks[:, None] == labels[:, None, None, None]).float()  # (B, O, F, H, W)
        loop, length = self.loop, masks.shape[1]
        step = self.network.config.clip_length
        if loop.single_share and float(torch.rand(())) < loop.single_share:
            step = 1
        clips = -(-(length - 1) // step)
        most = min(loop.silent_clips * self.network.config.clip_length // step, clips - 1)
        silent = int(torch.randint(most + 1, ())) if most else 0
        remember: Remember = lambda soft, clip: soft  # noqa: E731
        if loop.damage_share:
            shape = (target.shape[0], target.shape[1])
            remember = draw_damage(shape, share=loop.damage_share, clips=clips).apply
        placed, places = target, None
        if (slots := self.network.slots) is not None:
            # Each slot has weights of its own: all are trained, whatever number an object has.
            places = torch.randperm(slots, device=masks.device)[:objects]
            placed = target.new_zeros(len(target), slots, *target.shape[2:])
            placed[:, places] = target
        if truth_share:
            told = torch.rand(len(target), device=masks.device) < truth_share
            remember = remember_truth(placed[:, :, step::step], told, otherwise=remember)
        with torch.autocast(frames.device.type, torch.bfloat16, enabled=half):
            layers = unroll(
                self.network,
                frames,
                placed[:, :, 0],
                recompute=self.recompute,
                clip_length=step,
                memory_size=loop.memory_size,
                retention=loop.draw_retention(self.network),
                silent=silent,
                remember=remember,
            )
        if places is not None:
            layers = [logits[:, places] for logits in layers]
        counted = target[:, :, 1 + silent * step :]
        loss = self.compare(layers, counted, target[:, :, 0], hard_share)
        return loss, layers[-1].detach().amax(dim=1)

    def compare(
        self, layers: list[Tensor], counted: Tensor, reference: Tensor, hard_share: float
    ) -> Tensor:
        """Return the loss of logits (B, O, F', h, w) against masks (B, O, F', H, W), a scalar.

        `reference` (B, O, H, W) tells which objects a sample has. Of several objects the last
        layer is also compared as it is served, after aggregation.
        """
        if reference.shape[1] == 1:
            each = [logits[:, 0] for logits in layers]
            return training_loss(each, counted[:, 0], self.config, hard_share=hard_share)
        present = reference.flatten(2).any(dim=2)  # (B, O)
        each, wanted = [logits[present] for logits in layers], counted[present]
        alone = training_loss(each, wanted, self.config, hard_share=hard_share)
        competing = [self.network.compete(layers[-1].float(), present)[present]]
        together = training_loss(competing, wanted, self.config, hard_share=hard_share)
        return alone + together / 2
