"""The numbers of a QMVOS in one frozen value; `builds.py` chooses them."""

from dataclasses import dataclass
from typing import Literal

from model.networks.base import NetworkConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class QmvosConfig(NetworkConfig):
    """What distinguishes one build of QMVOS from another.

    `widths` are the decoder's channels at strides 4, 8 and 16; the first is also a query's width.
    `mixed` are the channels in which the hidden state's inputs are added. `top_k` is how many
    places of the memory a place may look at, None for all. `separable` has the decoder's block at
    stride 4 made of depthwise and pointwise convolutions.
    """

    backbone: Literal["resnet50", "mobilenet_v2"]
    value_backbone: Literal["resnet18", "mobilenet_v2"]
    key: int = 64
    value: int = 512
    hidden: int = 64
    mixed: int = 256
    widths: tuple[int, int, int] = (256, 256, 512)
    heads: int = 8
    feedforward: int = 1024
    norm_groups: int = 32
    top_k: int | None = 30
    separable: bool = False

    @property
    def query(self) -> int:
        """Return the width of an object's query, which is that of the finest map."""
        return self.widths[0]
