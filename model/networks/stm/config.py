"""The numbers of an STM in one frozen value; `builds.py` chooses them."""

from dataclasses import dataclass
from typing import Literal

from model.networks.base import NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StmConfig(NetworkConfig):
    """What distinguishes one build of STM from another.

    `widths` are the decoder's channels at strides 4, 8 and 16. `norm_groups` puts a GroupNorm
    behind each of its blocks; the paper's has none (0).
    """

    backbone: Literal["resnet50", "mobilenet_v2"]
    key: int = 128
    value: int = 512
    widths: tuple[int, int, int] = (256, 256, 256)
    norm_groups: int = 0
