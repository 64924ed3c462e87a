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
        hit = (self.first <= clip) & (self.cut | self.shrunk | self.spilled)
        if not hit.any():
            return masks
        return masks.index_put((hit,), self._damage(masks[hit], hit))

    def _damage(self, masks: Tensor, hit: Tensor) -> Tensor:
        """Return the damaged masks (K, H, W) of the K objects that are `hit` (B, O)."""
        cut, shrunk, spilled = (
            kind[hit][:, None, None] for kind in (self.cut, self.shrunk, self.spilled)
        )
        shape = _Shape.of(masks)
        angle, offset, reach = self.angle[hit], self.offset[hit], self.reach[hit]
        damaged = torch.where(cut, cut_off(masks, shape, angle, offset), masks)
        if shrunk.any():
            damaged = torch.where(shrunk, erode(masks, self.shrunk_px), damaged)
        if spilled.any():
            damaged = torch.where(spilled, add_blob(masks, shape, angle, reach), damaged)
        return damaged


def cut_off(masks: Tensor, shape: "_Shape", angle: Tensor, offset: Tensor) -> Tensor:
    """Return masks (K, H, W) without what lies beyond a line across `angle` (K,)."""
    across = shape.along(angle)  # (K, H, W)
    spread = (masks * across.square()).sum((-2, -1)) / shape.area
    line = (offset * spread.sqrt())[..., None, None]
    return masks * torch.sigmoid((line - across) / _EDGE_PX)


def erode(masks: Tensor, pixels: int) -> Tensor:
    """Return masks (K, H, W) whose edges moved inwards: a square's minimum, along each axis."""
    width, lost = 2 * pixels + 1, -masks
    for size, padding in (((1, width), (0, pixels)), ((width, 1), (pixels, 0))):
        lost = functional.max_pool2d(lost, size, stride=1, padding=padding)
    return -lost


def add_blob(masks: Tensor, shape: "_Shape", angle: Tensor, reach: Tensor) -> Tensor:
    """Return masks (K, H, W) with a disk beside the object, `reach` (K,) extents away."""
    extent = shape.area.sqrt()
    right = shape.x - (reach * extent * angle.cos())[..., None, None]
    down = shape.y - (reach * extent * angle.sin())[..., None, None]
    radius = 0.4 * extent[..., None, None]
    blob = torch.sigmoid((radius - (right.square() + down.square()).sqrt()) / _EDGE_PX)
    return torch.maximum(masks, 0.95 * blob * (shape.area > 1)[..., None, None])


@dataclass(frozen=True, slots=True)
class _Shape:
    """Where a mask lies: its area (K,), and every pixel's way from its center, (K, H, W)."""

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
        """Return every pixel's way in the direction of `angle` (K,), (K, H, W)."""
        return self.x * angle.cos()[..., None, None] + self.y * angle.sin()[..., None, None]


def draw_damage(shape: tuple[int, int], *, share: float, clips: int) -> MemoryDamage:
    """Draw the damage of (B, O) objects with PyTorch's random numbers; a `share` of them have one.

    Half of the damaged spill, three in ten lose a part, the others shrink. A model that learns
    more often to complete than to let go takes what is beside an object for the object.
    """
    kind = torch.rand(shape) / max(share, 1e-9)
    late = (torch.rand(shape) * clips).long()
    begins = torch.where(torch.rand(shape) < _EARLIEST, torch.zeros_like(late), late)
    return MemoryDamage(
        first=begins,
        cut=kind < 0.3,
        shrunk=(kind >= 0.3) & (kind < 0.5),
        spilled=(kind >= 0.5) & (kind < 1.0),
        angle=torch.rand(shape) * 2 * torch.pi,
        offset=torch.rand(shape) * 2.0 - 0.8,
        reach=0.6 + 0.9 * torch.rand(shape),
        shrunk_px=int(torch.randint(_SHRUNK_PX[0], _SHRUNK_PX[1] + 1, ())),
    )
