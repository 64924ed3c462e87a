"""Memories damaged as a long loop damages them: parts that are lost, masks that shrink or spill.

A model that feeds on its own masks never sees in a short sample what they become in a long video.
So the masks that it remembers are damaged from some clip on, always the same way, while reference
and targets stay true: it learns to complete what is missing and to let go of what is wrong.

B samples, O objects, H and W the size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

_EDGE_PX = 1.5  # how soft the line is that cuts a mask
_SHRUNK_PX = (1, 5)  # by how much an edge moves inwards
_EARLIEST = 0.6  # of the damaged samples are damaged from the first remembered clip on


@dataclass(frozen=True, slots=True)
class MemoryDamage:
    """What happens to each object of each sample in every entry from clip `first` on, (B, O).

    `cut`, `shrunk` and `spilled` say which damage it is. A cut runs across `angle`, `offset`
    standard deviations from the center; what is spilled lies at that angle, `reach` extents away.
    """

    first: Tensor
    cut: Tensor
    shrunk: Tensor
    spilled: Tensor
    angle: Tensor
    offset: Tensor
    reach: Tensor
    shrunk_px: int

    def apply(self, masks: Tensor, clip: int) -> Tensor:
        """Return the soft masks (B, O, H, W) in [0, 1] of clip number `clip` as remembered."""
        begun = (self.first <= clip)[..., None, None]
        shape = _Shape.of(masks)
        damaged = torch.where(self.cut[..., None, None], self._without_part(masks, shape), masks)
        width = 2 * self.shrunk_px + 1
        eroded = -functional.max_pool2d(-masks, width, stride=1, padding=self.shrunk_px)
        damaged = torch.where(self.shrunk[..., None, None], eroded, damaged)
        damaged = torch.where(self.spilled[..., None, None], self._with_blob(masks, shape), damaged)
        return torch.where(begun, damaged, masks)

    def _without_part(self, masks: Tensor, shape: "_Shape") -> Tensor:
        across = shape.along(self.angle)  # (B, O, H, W)
        spread = (masks * across.square()).sum((-2, -1)) / shape.area
        line = (self.offset * spread.sqrt())[..., None, None]
        return masks * torch.sigmoid((line - across) / _EDGE_PX)

    def _with_blob(self, masks: Tensor, shape: "_Shape") -> Tensor:
        extent = shape.area.sqrt()
        right = shape.x - (self.reach * extent * self.angle.cos())[..., None, None]
        down = shape.y - (self.reach * extent * self.angle.sin())[..., None, None]
        radius = 0.4 * extent[..., None, None]
        blob = torch.sigmoid((radius - (right.square() + down.square()).sqrt()) / _EDGE_PX)
        return torch.maximum(masks, 0.95 * blob * (shape.area > 1)[..., None, None])


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a mask lies: its area (B, O), and every pixel's way from its center, (B, O, H, W)."""

    area: Tensor
    x: Tensor
    y: Tensor

    @classmethod
    def of(cls, masks: Tensor) -> "_Shape":
        height, width = masks.shape[-2:]
        area = masks.sum((-2, -1)).clamp(min=1.0)
        columns = torch.arange(width, device=masks.device, dtype=masks.dtype)
        rows = torch.arange(height, device=masks.device, dtype=masks.dtype)[:, None]
        center_x = (masks * columns).sum((-2, -1)) / area
        center_y = (masks * rows).sum((-2, -1)) / area
        x = (columns - center_x[..., None, None]).expand_as(masks)
        return cls(area, x, (rows - center_y[..., None, None]).expand_as(masks))

    def along(self, angle: Tensor) -> Tensor:
        """Return every pixel's way in the direction of `angle` (B, O), (B, O, H, W)."""
        return self.x * angle.cos()[..., None, None] + self.y * angle.sin()[..., None, None]


def draw_damage(shape: tuple[int, int], *, share: float, clips: int) -> MemoryDamage:
    """Draw the damage of (B, O) objects with PyTorch's random numbers; a `share` of them have one.

    Half of the damaged lose a part, the others shrink or spill in equal parts.
    """
    kind = torch.rand(shape) / max(share, 1e-9)
    late = (torch.rand(shape) * clips).long()
    begins = torch.where(torch.rand(shape) < _EARLIEST, torch.zeros_like(late), late)
    return MemoryDamage(
        first=begins,
        cut=kind < 0.5,
        shrunk=(kind >= 0.5) & (kind < 0.75),
        spilled=(kind >= 0.75) & (kind < 1.0),
        angle=torch.rand(shape) * 2 * torch.pi,
        offset=torch.rand(shape) * 2.0 - 0.8,
        reach=0.6 + 0.9 * torch.rand(shape),
        shrunk_px=int(torch.randint(_SHRUNK_PX[0], _SHRUNK_PX[1] + 1, ())),
    )
