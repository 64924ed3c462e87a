"""STM: two verbs over a memory whose keys and values belong to each object (Oh et al. 2019).

B sessions, L frames of a clip, X frames (B * L), N entries, O objects, T tokens of stride 16,
K and V channels of keys and values, H and W the input's size, h and w a map's.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from model.core.contract import BankTensor
from model.networks.backbones import MobileNetV2, ResNet
from model.networks.base import (
    Bank,
    Remembered,
    Segmented,
    Tensors,
    TrackingNetwork,
    aggregate_softly,
)
from model.networks.stm.config import StmConfig
from model.networks.stm.decoder import RefinementDecoder
from model.networks.stm.memory_encoder import KeyValue, MemoryEncoder
from model.networks.stm.memory_read import read_memory
from model.networks.stm.published_keys import rename_published

ABSENT = -30.0  # the logit of an object that no entry knows: probability 0 once it is rounded


class StmFeatures(NamedTuple):
    """What the query encoder says of frames, once for all objects."""

    images: Tensor  # (X, 3, H, W), normalized
    key: Tensor  # (X, K, h, w) at stride 16
    value: Tensor  # (X, V, h, w)
    skips: tuple[Tensor, Tensor]  # at strides 8 and 4


class Stm(TrackingNetwork):
    """The model. `memorize` gives each object keys and values of its own; `segment` reads them."""

    aggregated = True
    config: StmConfig

    def __init__(
        self,
        config: StmConfig,
        *,
        backbone: ResNet | MobileNetV2,
        query_head: KeyValue,
        memory_encoder: MemoryEncoder,
        decoder: RefinementDecoder,
    ) -> None:
        super().__init__(config)
        self.backbone = backbone
        self.query_head, self.memory_encoder, self.decoder = query_head, memory_encoder, decoder

    @property
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        return (
            BankTensor("key_s16", "float16", True, 16, self.config.key),
            BankTensor("value_s16", "float16", True, 16, self.config.value),
        )

    @property
    def trunks(self) -> tuple[nn.Module, ...]:
        return self.backbone, self.memory_encoder.trunk

    def encode_frames(self, images: Tensor) -> StmFeatures:
        s4, s8, s16 = self.backbone(images)
        skips = (self.decoder.refine_s8.encode_skip(s8), self.decoder.refine_s4.encode_skip(s4))
        key, value = self.query_head(s16)
        return StmFeatures(images, key, value, skips)

    def memorize(
        self, features: StmFeatures, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        key, value = self.memory_encoder(features.images, masks)
        return Remembered({"key_s16": key, "value_s16": value}, {})

    def segment(self, features: StmFeatures, bank: Bank, *, every_layer: bool = False) -> Segmented:
        channels = self.decode(features, bank)
        logits = channels[:, :, :, 1] - channels[:, :, :, 0]  # softmax of two is sigmoid of this
        if bank.entry_valid is not None:
            known = bank.entry_valid.any(dim=2)[:, None, :, None, None]
            logits = torch.where(known, logits, ABSENT)
        return Segmented([logits], {})

    def decode(self, features: StmFeatures, bank: Bank) -> Tensor:
        """Return the decoder's two channels (background, object), (B, L, O, 2, h, w)."""
        batch, objects = bank.age.shape[0], bank.tensors["key_s16"].shape[2]
        query = features.key.flatten(2).transpose(1, 2).unflatten(0, (batch, -1))  # (B, L, T, K)
        read = read_memory(query, bank)  # (B, L, O, T, V)
        found = read.flatten(0, 2).transpose(1, 2).unflatten(2, features.value.shape[-2:])
        seen = features.value[:, None].expand(-1, objects, -1, -1, -1).flatten(0, 1)
        both = self.decoder(torch.cat((found, seen), dim=1), features.skips, objects)
        return both.unflatten(0, (batch, -1, objects))

    def soften(self, logits: Tensor, exists: Tensor) -> Tensor:
        return aggregate_softly(logits.sigmoid(), exists)

    def rename_published(self, checkpoint: Mapping[str, Tensor]) -> Tensors:
        return rename_published(checkpoint, self.state_dict(), self.config.name)
