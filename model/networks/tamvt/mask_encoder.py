"""How masks enter the memory: as maps at strides 32 and 16, for each object.

B sessions, O objects, C channels, H and W the input's size, h and w a map's.
"""

from abc import ABC, abstractmethod
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Backbone, Maps


class MaskEncoder(nn.Module, ABC):
    """What makes maps of soft masks."""

    @abstractmethod
    def forward(
        self, backbone: Backbone, images: Tensor, maps: Maps, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return maps (B * O, C, h, w) at strides 32 and 16 of masks (B, O, H, W) in [0, 1].

        `images` (B, 3, H, W) are the normalized frames and `maps` what `backbone` made of them.
        """


class BackboneMaskEncoder(MaskEncoder):
    """The paper's: a mask passes through the image backbone itself, alone, without the picture.

    The mask is not normalized; its one channel stands for three equal ones, which the backbone's
    first layer sums (TAM-VT, section 3.1). With one of the `scales` the map at stride 16 is not
    read, so it is not projected.
    """

    def __init__(self, channels: tuple[int, ...], hidden: int, *, scales: int = 2) -> None:
        super().__init__()
        self.project_s32 = nn.Conv2d(channels[3], hidden, 1)
        self.project_s16 = nn.Conv2d(channels[2], hidden, 1) if scales > 1 else nn.Identity()

    def forward(
        self, backbone: Backbone, images: Tensor, maps: Maps, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        _, _, s16, s32 = backbone(masks.flatten(0, 1)[:, None])
        return self.project_s32(s32), self.project_s16(s16)


class StemMaskEncoder(MaskEncoder):
    """A light one: a small stem on picture and mask, joined with the frame's own features.

    The frame's features are at hand when an entry is made, so only the stem runs for each object
    (as in STM's family of memory networks, Oh et al. 2019).
    """

    STEM = (16, 32, 64)

    def __init__(self, channels: tuple[int, ...], hidden: int, groups: int) -> None:
        super().__init__()
        widths = (*self.STEM, hidden)
        self.image = nn.Conv2d(3, widths[0], 3, 2, padding=1, bias=False)
        self.mask = nn.Conv2d(1, widths[0], 3, 2, padding=1)
        self.stem = nn.ModuleList(
            nn.Conv2d(a, b, 3, 2, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(
            nn.GroupNorm(min(groups, width // 4), width) for width in widths[1:]
        )
        self.fuse_s16 = nn.Conv2d(channels[2], hidden, 1)
        self.blend_s16 = Blend(hidden, groups)
        self.down = nn.Conv2d(hidden, hidden, 3, 2, padding=1)
        self.fuse_s32 = nn.Conv2d(channels[3], hidden, 1)
        self.blend_s32 = Blend(hidden, groups)

    def forward(
        self, backbone: Backbone, images: Tensor, maps: Maps, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, objects = masks.shape[:2]
        picture = self.image(images)[:, None]  # once for all objects
        shape = self.mask(masks.flatten(0, 1)[:, None]).unflatten(0, (batch, objects))
        x = functional.relu((picture + shape).flatten(0, 1))
        for conv, norm in zip(self.stem, self.norms, strict=True):
            x = functional.relu(norm(conv(x)))
        s16 = self.blend_s16(shared_sum(x, self.fuse_s16(maps[2])))
        s32 = self.blend_s32(shared_sum(self.down(functional.relu(s16)), self.fuse_s32(maps[3])))
        return s32, s16


class Blend(nn.Module):
    """A residual block: GroupNorm, ReLU, 3x3, twice."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(groups, channels) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(functional.relu(self.norm1(x)))
        return x + self.conv2(functional.relu(self.norm2(y)))


def shared_sum(per_object: Tensor, per_frame: Tensor) -> Tensor:
    """Return (B * O, C, h, w) plus (B, C, h, w), the latter for every object."""
    split = per_object.unflatten(0, (per_frame.shape[0], -1))
    return (split + per_frame[:, None]).flatten(0, 1)
