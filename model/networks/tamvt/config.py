"""The numbers of a TAM-VT in one frozen value; `builds.py` chooses them."""

from dataclasses import dataclass
from typing import Literal

from model.networks.base import NetworkConfig

BackboneName = Literal["resnet50", "resnet18", "mobilenet_v2"]
MaskEncoderName = Literal["backbone", "stem"]
TimeName = Literal["multiplicative", "additive", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TamvtConfig(NetworkConfig):
    """What distinguishes one build of TAM-VT from another.

    `widths` are the pixel decoder's channels at strides 4, 8, 16 and 32; the three coarse ones are
    `hidden`, since the space-time decoder reads them. `time_rows` is the largest bank (N) that the
    time encoding has rows for; those above `trained_memory_size` are interpolated when the model
    is served (TAM-VT, section 3.2). Matching happens at strides 32 and 16, or with one of the
    `scales` at 32 alone.
    """

    backbone: BackboneName
    hidden: int = 256
    widths: tuple[int, int, int, int] = (256, 256, 256, 256)
    matching_heads: int = 4
    decoder_layers: int = 6
    decoder_heads: int = 8
    feedforward: int = 2048
    norm_groups: int = 32
    dropout: float = 0.1
    mask_encoder: MaskEncoderName = "backbone"
    time: TimeName = "multiplicative"
    scales: Literal[1, 2] = 2
    time_rows: int = 9
