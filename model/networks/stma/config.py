"""The numbers of an STMA-style network in one frozen value; `builds.py` chooses them."""

from dataclasses import dataclass
from typing import Literal

from model.networks.base import NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class StmaConfig(NetworkConfig):
    """What distinguishes one build from another; all of it our own choice.

    `slots` objects have an ID, besides the background. `widths` are the decoder's channels at
    strides 4 and 8.
    """

    backbone: Literal["resnet50", "mobilenet_v2"]
    hidden: int = 256
    blocks: int = 6
    heads: int = 8
    feedforward: int = 512
    slots: int = 10
    id_channels: int = 64
    widths: tuple[int, int] = (64, 128)
    norm_groups: int = 16
