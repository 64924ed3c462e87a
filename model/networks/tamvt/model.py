"""TAM-VT: masks of objects in the next clip, from a memory of frames and masks (arXiv 2312.08514).

B sessions, L frames of a clip, X frames, N entries of the bank, O objects, T tokens of a map,
C channels, H and W the input's size, h and w a map's.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from model.core.contract import BankTensor
from model.networks.backbones import Maps, MobileNetV2, ResNet
from model.networks.base import Bank, Remembered, Segmented, Tensors, TrackingNetwork
from model.networks.position import TimeEncoding, sine_position
from model.networks.tamvt.config import TamvtConfig
from model.networks.tamvt.mask_decoder import MaskDecoder
from model.networks.tamvt.mask_encoder import MaskEncoder
from model.networks.tamvt.matching import Matching, Recency
from model.networks.tamvt.pixel_decoder import PixelDecoder, map_of, tokens_of
from model.networks.tamvt.published_keys import rename_published


class FrameFeatures(NamedTuple):
    """What the backbone says of frames, once for all objects."""

    images: Tensor  # (X, 3, H, W), normalized
    maps: Maps
    tokens: tuple[Tensor, ...]  # of each scale, (X, T, C), with their sine position


class Scale(NamedTuple):
    """One of the strides at which frames are matched with the memory."""

    stride: int
    level: int  # which of the backbone's maps
    project: nn.Conv2d
    matching: Matching

    @property
    def key(self) -> str:
        """Return the bank's tensor of image tokens."""
        return f"key_s{self.stride}"

    @property
    def value(self) -> str:
        """Return the bank's tensor of mask tokens."""
        return f"value_s{self.stride}"


class TamVT(TrackingNetwork):
    """The model. Two verbs: `memorize` a frame with its masks, `segment` the frames of a clip."""

    config: TamvtConfig

    def __init__(
        self,
        config: TamvtConfig,
        *,
        backbone: ResNet | MobileNetV2,
        mask_encoder: MaskEncoder,
        matching_s32: Matching,
        matching_s16: Matching | None,
        time: TimeEncoding,
        pixel_decoder: PixelDecoder,
        mask_decoder: MaskDecoder,
    ) -> None:
        super().__init__(config)
        self.backbone = backbone
        self.project_s32 = nn.Conv2d(backbone.channels[3], config.hidden, 1)
        self.project_s16 = (
            None if matching_s16 is None else nn.Conv2d(backbone.channels[2], config.hidden, 1)
        )
        self.mask_encoder = mask_encoder
        self.matching_s32, self.matching_s16 = matching_s32, matching_s16
        self.time = time
        self.pixel_decoder, self.mask_decoder = pixel_decoder, mask_decoder

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Return the scales that are matched, coarse before fine."""
        coarse = Scale(32, 3, self.project_s32, self.matching_s32)
        if self.project_s16 is None or self.matching_s16 is None:
            return (coarse,)
        return coarse, Scale(16, 2, self.project_s16, self.matching_s16)

    @property
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        return tuple(
            BankTensor(name, "float16", name == scale.value, scale.stride, self.config.hidden)
            for scale in self.scales
            for name in (scale.key, scale.value)
        )

    def encode_frames(self, images: Tensor) -> FrameFeatures:
        maps = self.backbone(images)
        tokens = (self.add_position(scale.project(maps[scale.level])) for scale in self.scales)
        return FrameFeatures(images, maps, tuple(tokens))

    def add_position(self, feature: Tensor) -> Tensor:
        """Return tokens (X, T, C) of a map (X, C, h, w), their sine position added."""
        position = sine_position(feature, self.config.hidden)
        return tokens_of(feature) + position.to(feature.dtype)

    def memorize(
        self, features: FrameFeatures, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        encoded = self.mask_encoder(self.backbone, features.images, features.maps, masks)
        batch_and_objects = (masks.shape[0], masks.shape[1])
        entry = {}
        for scale, tokens, mask_map in zip(self.scales, features.tokens, encoded, strict=False):
            mask_tokens = self.add_position(mask_map).unflatten(0, batch_and_objects)
            entry[scale.key] = scale.matching.project_key(tokens)
            entry[scale.value] = scale.matching.project_value(mask_tokens)
        return Remembered(entry, {})

    def segment(
        self, features: FrameFeatures, bank: Bank, *, every_layer: bool = False
    ) -> Segmented:
        batch = bank.age.shape[0]
        length = features.images.shape[0] // batch
        recency = self.weigh_entries(bank)
        matched = []  # of each scale, (X, O, C, h, w)
        for scale, tokens in zip(self.scales, features.tokens, strict=True):
            key, value = bank.tensors[scale.key], bank.tensors[scale.value]
            read = scale.matching(tokens.unflatten(0, (batch, length)), key, value, recency)
            matched.append(map_of(read.flatten(0, 1), features.maps[scale.level]))
        pyramid = self.pixel_decoder(features.maps, *matched)
        clip = (batch, length, matched[0].shape[1])
        return Segmented(self.mask_decoder(pyramid, clip, every_layer), {})

    def weigh_entries(self, bank: Bank) -> Recency:
        """Return how matching weighs the slots of a bank, by their ages."""
        return Recency(
            self.time(bank.age), bank.present, bank.entry_valid, self.time.bias(bank.age)
        )

    def widen_memory(self, entries: int) -> None:
        trained = min(self.config.trained_memory_size, self.config.time_rows)
        self.time = self.time.interpolated(trained=trained, rows=entries)

    def rename_published(self, checkpoint: Mapping[str, Tensor]) -> Tensors:
        return rename_published(checkpoint, self.state_dict(), self.config.name)

    def attend(
        self, features: FrameFeatures, bank: Bank, *, x: float, y: float
    ) -> dict[int, Tensor]:
        recency, attention = self.weigh_entries(bank), {}
        for scale, tokens in zip(self.scales, features.tokens, strict=True):
            height, width = features.maps[scale.level].shape[-2:]
            token = tokens[0, int(y * height) * width + int(x * width)]
            weights = scale.matching.attend_from(token, bank.tensors[scale.key][0], recency)
            attention[scale.stride] = weights.reshape(-1, height, width)
        return attention
