"""TAM-VT: masks of objects in the next clip, from a memory of frames and masks (arXiv 2312.08514).

B sessions, L frames of a clip, N entries of the bank, O objects, T tokens of a map, C channels,
H and W the input's size, h and w a map's.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import Maps, MobileNetV2, ResNet
from model.networks.position import TimeEncoding, sine_position
from model.networks.tamvt.config import ModelConfig
from model.networks.tamvt.mask_decoder import MaskDecoder
from model.networks.tamvt.mask_encoder import BackboneMaskEncoder, StemMaskEncoder
from model.networks.tamvt.matching import Matching, Recency
from model.networks.tamvt.pixel_decoder import PixelDecoder, map_of, tokens_of


class Entry(NamedTuple):
    """One remembered (frame, masks), ready for matching; a scale that is not matched has T = 0."""

    key_s32: Tensor  # (B, T, C)
    value_s32: Tensor  # (B, O, T, C)
    key_s16: Tensor
    value_s16: Tensor


class Bank(NamedTuple):
    """The entries of each session, in slots."""

    key_s32: Tensor  # (B, N, T, C)
    value_s32: Tensor  # (B, N, O, T, C)
    key_s16: Tensor
    value_s16: Tensor


class Features(NamedTuple):
    """What the backbone says of frames, once for all objects; X frames."""

    images: Tensor  # (X, 3, H, W), normalized
    maps: Maps
    tokens_s32: Tensor  # (X, T, C), with their sine position
    tokens_s16: Tensor  # T is 0 where matching has one scale

    def at(self, index: Tensor | slice) -> "Features":
        """The features of some of the frames."""
        s4, s8, s16, s32 = (feature[index] for feature in self.maps)
        return Features(
            self.images[index], (s4, s8, s16, s32), self.tokens_s32[index], self.tokens_s16[index]
        )


class TamVT(nn.Module):
    """The model. Two verbs: `memorize` a frame with its masks, `segment` the frames of a clip."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        config: ModelConfig,
        *,
        backbone: ResNet | MobileNetV2,
        mask_encoder: BackboneMaskEncoder | StemMaskEncoder,
        matching_s32: Matching,
        matching_s16: Matching | None,
        time: TimeEncoding,
        pixel_decoder: PixelDecoder,
        mask_decoder: MaskDecoder,
    ) -> None:
        super().__init__()
        self.config = config
        self.backbone = backbone
        self.project_s32 = nn.Conv2d(backbone.channels[3], config.hidden, 1)
        self.project_s16 = (
            None if matching_s16 is None else nn.Conv2d(backbone.channels[2], config.hidden, 1)
        )
        self.mask_encoder = mask_encoder
        self.matching_s32, self.matching_s16 = matching_s32, matching_s16
        self.time = time
        self.pixel_decoder, self.mask_decoder = pixel_decoder, mask_decoder
        mean, deviation = (torch.tensor(values)[:, None, None] for values in config.normalization)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def normalize(self, frames: Tensor) -> Tensor:
        """RGB frames uint8 (X, H, W, 3) as the network's input (X, 3, H, W)."""
        return (frames.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.deviation

    def look(self, images: Tensor) -> Features:
        """The features of normalized images (X, 3, H, W)."""
        maps = self.backbone(images)
        tokens_s32 = self.placed(self.project_s32(maps[3]))
        if self.project_s16 is None:
            return Features(images, maps, tokens_s32, tokens_s32[:, :0])
        return Features(images, maps, tokens_s32, self.placed(self.project_s16(maps[2])))

    def placed(self, feature: Tensor) -> Tensor:
        """(X, C, h, w) -> tokens (X, T, C) with their sine position added."""
        place = sine_position(feature, self.config.hidden)
        return tokens_of(feature) + place.to(feature.dtype)

    def memorize(self, seen: Features, masks: Tensor) -> Entry:
        """The entry of B frames, `seen` being their features, with masks (B, O, H, W) in [0, 1]."""
        if isinstance(self.mask_encoder, BackboneMaskEncoder):
            mask_s32, mask_s16 = self.mask_encoder(self.backbone, masks)
        else:
            mask_s32, mask_s16 = self.mask_encoder(seen.images, seen.maps, masks)
        objects = (masks.shape[0], masks.shape[1])
        key_s32 = self.matching_s32.project_key(seen.tokens_s32)
        value_s32 = self.matching_s32.project_value(self.placed(mask_s32).unflatten(0, objects))
        if self.matching_s16 is None:
            return Entry(key_s32, value_s32, key_s32[:, :0], value_s32[:, :, :0])
        return Entry(
            key_s32,
            value_s32,
            self.matching_s16.project_key(seen.tokens_s16),
            self.matching_s16.project_value(self.placed(mask_s16).unflatten(0, objects)),
        )

    def segment(
        self, seen: Features, bank: Bank, recency: Recency, every_layer: bool = False
    ) -> list[Tensor]:
        """Logits (B, L, O, h, w) at stride 4 of a clip's frames, `seen` as B * L frames.

        The last decoder layer's alone, or with `every_layer` one of each, in order.
        """
        batch, objects = bank.key_s32.shape[0], bank.value_s32.shape[2]
        length = seen.tokens_s32.shape[0] // batch
        clip = (batch, length)
        read_s32 = self.matching_s32(
            seen.tokens_s32.unflatten(0, clip), bank.key_s32, bank.value_s32, recency
        )
        matched_s32, matched_s16 = map_of(read_s32.flatten(0, 1), seen.maps[3]), None
        if self.matching_s16 is not None:
            read_s16 = self.matching_s16(
                seen.tokens_s16.unflatten(0, clip), bank.key_s16, bank.value_s16, recency
            )
            matched_s16 = map_of(read_s16.flatten(0, 1), seen.maps[2])
        pyramid = self.pixel_decoder(seen.maps, matched_s32, matched_s16)
        return self.mask_decoder(pyramid, (batch, length, objects), every_layer)

    def recency(self, age: Tensor, entry_valid: Tensor | None = None) -> Recency:
        """How matching weighs slots of the given ages (B, N), -1 being an empty one."""
        present = age >= 0
        return self.timed(age, None if bool(present.all()) else present, entry_valid)

    def timed(self, age: Tensor, present: Tensor | None, entry_valid: Tensor | None) -> Recency:
        """The same, where it is known which slots are `present` (None: all)."""
        return Recency(self.time(age), present, entry_valid, self.time.bias(age))


def soft_masks(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities of logits (B, L, O, h, w) at `size` = (H, W), by bilinear interpolation."""
    batch = logits.shape[:2]
    full = functional.interpolate(
        logits.flatten(0, 1).float(), size=size, mode="bilinear", align_corners=False
    )
    return full.sigmoid().unflatten(0, batch)
