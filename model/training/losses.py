"""Losses: focal and dice, weighted by how much the object changes (TAM-VT, section 3.4).

B clips, F frames that count, H and W the target's size.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from model.training.errors import SettingsError

FOCAL_WEIGHT = DICE_WEIGHT = 5.0
AUXILIARY_WEIGHT = 0.5

Change = Literal["area", "components", "center"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """What a model is trained on.

    `published`: focal and dice loss with the published weights, every decoder layer alike at full
    size. `hard`: cross-entropy of the hardest pixels with them; layers below the last count half,
    at stride 4. Both may weigh frames by `change` (None: all alike), on focal loss, dice or both.
    `missed` is what a missed pixel counts in the hard kind's dice loss, a wrong one 1 - `missed`
    (0.5: dice as it is).
    """

    kind: Literal["published", "hard"] = "hard"
    change: Change | None = None
    tau: float = 1.0
    weighted: Literal["focal", "dice", "both"] = "focal"
    missed: float = 0.5

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise SettingsError(f"tau must be positive, not {self.tau}")
        if not 0 < self.missed < 1:
            raise SettingsError(f"missed must lie between 0 and 1, not {self.missed}")


def focal_loss(
    logits: Tensor, target: Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Return focal loss of every frame (B, F), mean over its pixels (Lin et al. 2017).

    logits and target are (B, F, H, W); `alpha` weighs the foreground, 1 - alpha the background.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    probability = logits.sigmoid()
    right = probability * target + (1 - probability) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * cross_entropy * (1 - right) ** gamma).mean(dim=(-2, -1))


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return dice loss of every frame (B, F) of logits and target (B, F, H, W)."""
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (total + 1)


def tversky_loss(logits: Tensor, target: Tensor, *, missed: float) -> Tensor:
    """Return Tversky loss of every frame (B, F); with `missed` = 0.5 it is the dice loss.

    A missed pixel counts `missed`, a wrong one 1 - `missed` (Salehi et al. 2017, eq. 4, smoothed).
    """
    probability = logits.sigmoid()
    found = (probability * target).sum(dim=(-2, -1))
    lost = target.sum(dim=(-2, -1)) - found
    wrong = probability.sum(dim=(-2, -1)) - found
    return 1 - (found + 0.5) / (found + missed * lost + (1 - missed) * wrong + 0.5)


def hard_cross_entropy(logits: Tensor, target: Tensor, *, share: float) -> Tensor:
    """Return cross-entropy (B, F) over each frame's hardest pixels, a `share` of them in (0, 1]."""
    loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(-2)
    if share >= 1:
        return loss.mean(dim=-1)
    count = max(1, int(loss.shape[-1] * share))
    return loss.topk(count, dim=-1, sorted=False).values.mean(dim=-1)


def change_weights(target: Tensor, *, tau: float = 1.0, change: Change = "area") -> Tensor:
    """Return weights (B, F) of frames by the object's change, 1 for the first (TAM-VT, eq. 5).

    Frames whose mask changes most count most: a softmax over the relative changes divided by
    `tau`, scaled to mean 1. `change` says what is compared with the frame before.
    """
    moved = CHANGES[change](target)
    weight = (moved / moved.mean(dim=1, keepdim=True) / tau).exp()
    weight = weight / weight.mean(dim=1, keepdim=True)
    return torch.cat((torch.ones_like(weight[:, :1]), weight), dim=1)


def measure_area_change(target: Tensor) -> Tensor:
    """Return how many pixels the mask (B, F, H, W) grew or shrank by, plus 1, (B, F - 1)."""
    area = target.sum(dim=(-2, -1))
    return (area[:, 1:] - area[:, :-1]).abs() + 1


def measure_component_change(target: Tensor) -> Tensor:
    """Return the change of the number of connected parts (4-neighbors), plus 1, (B, F - 1)."""
    masks = (target.detach().cpu().numpy() > 0.5).astype(np.uint8)
    counts = [[cv2.connectedComponents(mask, connectivity=4)[0] - 1 for mask in m] for m in masks]
    parts = torch.tensor(counts, dtype=target.dtype, device=target.device)
    return (parts[:, 1:] - parts[:, :-1]).abs() + 1


def measure_center_change(target: Tensor) -> Tensor:
    """Return the pixels that the center of mass moved in the mask's box, plus 1, (B, F - 1).

    The center counts from the box's top left corner, so that moving as one is no change; that of
    an empty mask is 0.
    """
    place = torch.stack((find_own_center(target.sum(-1)), find_own_center(target.sum(-2))), dim=-1)
    return (place[:, 1:] - place[:, :-1]).norm(dim=-1) + 1


def find_own_center(profile: Tensor) -> Tensor:
    """Return the center (B, F) of profiles (B, F, X), counted from their first non-zero place."""
    index = torch.arange(profile.shape[-1], device=profile.device, dtype=profile.dtype)
    first = (profile > 0).to(torch.uint8).argmax(dim=-1)
    center = (profile * index).sum(-1) / profile.sum(-1).clamp(min=1e-6)
    return torch.where(profile.sum(-1) > 0, center - first, 0.0)


CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "area": measure_area_change,
        "components": measure_component_change,
        "center": measure_center_change,
    }
)


class LossTerms(NamedTuple):
    """The paper's losses of K decoder layers, each (K,), in the order of the layers."""

    focal: Tensor
    dice: Tensor

    @property
    def total(self) -> Tensor:
        """Return both losses of all layers, with the published weights: a scalar."""
        return FOCAL_WEIGHT * self.focal.sum() + DICE_WEIGHT * self.dice.sum()


def paper_loss(
    layers: Sequence[Tensor], target: Tensor, *, tau: float = 1.0, config: LossConfig | None = None
) -> LossTerms:
    """Return what TAM-VT is trained on: focal loss weighted by change of area, and plain dice loss.

    `layers` are the logits (B, F, h, w) of K decoder layers, `target` the masks (B, F, H, W) of
    all frames of a video that count, whatever clips they were decoded in. A `config` chooses
    another weighting.
    """
    config = config or LossConfig("published", "area", tau)
    on_focal, on_dice = weigh_frames(target, config)
    full = [upsample_to(logits.float(), target) for logits in layers]
    focal = [(on_focal * focal_loss(logits, target)).mean() for logits in full]
    dice = [(on_dice * dice_loss(logits, target)).mean() for logits in full]
    return LossTerms(torch.stack(focal), torch.stack(dice))


def weigh_frames(target: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Return the weights (B, F) of frames in the focal and in the dice loss."""
    even = torch.ones(target.shape[:2], device=target.device)
    if config.change is None:
        return even, even
    weight = change_weights(target, tau=config.tau, change=config.change)
    return (
        weight if config.weighted != "dice" else even,
        weight if config.weighted != "focal" else even,
    )


def training_loss(
    layers: Sequence[Tensor], target: Tensor, config: LossConfig, *, hard_share: float = 1.0
) -> Tensor:
    """Return the loss of all layers' logits (B, F, h, w) against masks (B, F, H, W), a scalar."""
    if config.kind == "published":
        return paper_loss(layers, target, config=config).total
    weights = weigh_frames(target, config)
    small = functional.interpolate(target, size=layers[0].shape[-2:], mode="area")
    last = upsample_to(layers[-1].float(), target)
    loss = hard_loss(last, target, weights, share=hard_share, missed=config.missed)
    for logits in layers[:-1]:
        lower = hard_loss(logits.float(), small, weights, share=hard_share, missed=config.missed)
        loss = loss + AUXILIARY_WEIGHT * lower
    return loss


def hard_loss(
    logits: Tensor, target: Tensor, weights: tuple[Tensor, Tensor], *, share: float, missed: float
) -> Tensor:
    """Return a layer's cross-entropy of the hardest pixels, focal and dice loss, over frames."""
    overlap = dice_loss(logits, target)
    if missed != 0.5:
        overlap = tversky_loss(logits, target, missed=missed)
    on_focal, on_dice = weights
    terms = (
        hard_cross_entropy(logits, target, share=share)
        + 5 * on_focal * focal_loss(logits, target)
        + on_dice * overlap
    )
    return terms.mean()


def upsample_to(logits: Tensor, like: Tensor) -> Tensor:
    """Return logits (B, F, h, w) at the size of `like` (B, F, H, W), bilinear."""
    return functional.interpolate(
        logits, size=like.shape[-2:], mode="bilinear", align_corners=False
    )
