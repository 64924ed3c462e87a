"""The numbers of a model, in one frozen value; `build.py` chooses them."""

from dataclasses import dataclass
from typing import Literal

BackboneName = Literal["resnet50", "resnet18", "mobilenet_v2"]
MaskEncoderName = Literal["backbone", "stem"]
TimeName = Literal["multiplicative", "additive", "none"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CENTERED = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # pixels to [-1, 1]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What distinguishes one build of TAM-VT from another.

    `widths` are the pixel decoder's channels at strides 4, 8, 16 and 32; the three coarse ones are
    `hidden`, since the space-time decoder reads them. `time_rows` is the largest bank (N) the
    time encoding has rows for, `trained_rows` the largest that training ever matched; rows above it
    are interpolated when the model is served (TAM-VT, section 3.2). Matching happens at strides 32
    and 16, or with one of the `scales` at 32 alone.
    """

    name: str
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
    normalization: tuple[tuple[float, float, float], tuple[float, float, float]] = IMAGENET
    time: TimeName = "multiplicative"
    scales: Literal[1, 2] = 2
    time_rows: int = 9
    trained_rows: int = 6
    short_side: int = 480
    clip_length: int = 2
    memory_size: int = 9
