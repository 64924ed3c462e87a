"""QMVOS: two verbs over a shared memory, a hidden state and a query of each object.

B sessions, L frames of a clip, X frames (B * L), N entries, O objects, T tokens of stride 16,
C channels, H and W the input's size, h and w a map's.
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
    raise_logits,
    take_frames,
)
from model.networks.qmvos.config import QmvosConfig
from model.networks.qmvos.decoder import QueryDecoder
from model.networks.qmvos.keys import KeyProjection
from model.networks.qmvos.memory_read import read_memory
from model.networks.qmvos.published_keys import rename_published
from model.networks.qmvos.queries import SemanticInjection
from model.networks.qmvos.value_encoder import ValueEncoder

ABSENT = -30.0  # the logit of an object that no entry knows: probability 0 once it is rounded


class QmvosFeatures(NamedTuple):
    """What the key encoder says of frames, once for all objects."""

    images: Tensor  # (X, 3, H, W), normalized
    f16: Tensor  # (X, C, h, w)
    skips: tuple[Tensor, Tensor]  # at strides 8 and 4
    key: Tensor  # (X, K, h, w)
    shrinkage: Tensor  # (X, 1, h, w)
    selection: Tensor  # (X, K, h, w)
    pooled_from: Tensor  # (X, Q, H / 8, W / 8), what queries are made of


class Qmvos(TrackingNetwork):
    """The model. `memorize` makes an entry and updates the state deeply, `segment` lightly."""

    aggregated = True
    config: QmvosConfig

    def __init__(
        self,
        config: QmvosConfig,
        *,
        backbone: ResNet | MobileNetV2,
        keys: KeyProjection,
        value_encoder: ValueEncoder,
        injection: SemanticInjection,
        decoder: QueryDecoder,
    ) -> None:
        super().__init__(config)
        self.backbone = backbone
        self.keys, self.value_encoder = keys, value_encoder
        self.injection, self.decoder = injection, decoder

    @property
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        return (
            BankTensor("key_s16", "float16", False, 16, self.config.key),
            BankTensor("shrinkage_s16", "float32", False, 16, 1),
            BankTensor("value_s16", "float16", True, 16, self.config.value),
        )

    @property
    def state_tensors(self) -> tuple[BankTensor, ...]:
        return (
            BankTensor("hidden_s16", "float16", True, 16, self.config.hidden),
            BankTensor("query", "float16", True, 0, self.config.query),
        )

    @property
    def trunks(self) -> tuple[nn.Module, ...]:
        if self.config.value_backbone != self.config.backbone:
            return (self.backbone,)
        return self.backbone, self.value_encoder.trunk

    def encode_frames(self, images: Tensor) -> QmvosFeatures:
        f4, f8, f16 = self.backbone(images)
        key, shrinkage, selection = self.keys(f16)
        skips = self.decoder.encode_skips(f4, f8)
        pooled_from = self.injection.encode_frames(f8, f16)
        return QmvosFeatures(images, f16, skips, key, shrinkage, selection, pooled_from)

    def memorize(
        self, features: QmvosFeatures, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        objects, size = masks.shape[1], features.f16.shape[-2:]
        before = state or self.begin_state(features, objects)
        value = self.value_encoder(features.images, features.f16, masks)
        hidden = to_maps(before["hidden_s16"], size).flatten(0, 1)
        entry = {
            "key_s16": to_tokens(features.key),
            "shrinkage_s16": to_tokens(features.shrinkage),
            "value_s16": to_tokens(value).unflatten(0, (-1, objects)),
        }
        after = to_tokens(self.value_encoder.deep_update(value, hidden))
        query = self.injection(features.pooled_from, masks, before["query"][:, :, 0])
        return Remembered(
            entry,
            {"hidden_s16": after.unflatten(0, (-1, objects)), "query": query[:, :, None]},
        )

    def begin_state(self, features: QmvosFeatures, objects: int) -> Tensors:
        """Return the state before a session's first frame: zeros."""
        images = features.images
        tokens = features.f16.shape[-2] * features.f16.shape[-1]
        batch = images.shape[0]
        return {
            "hidden_s16": images.new_zeros(batch, objects, tokens, self.config.hidden),
            "query": images.new_zeros(batch, objects, 1, self.config.query),
        }

    def segment(
        self, features: QmvosFeatures, bank: Bank, *, every_layer: bool = False
    ) -> Segmented:
        batch = bank.age.shape[0]
        length = features.images.shape[0] // batch
        state, logits = bank.state, []
        for frame in range(length):
            seen = take_frames(features, slice(frame, None, length))
            one, state = self.segment_frame(seen, bank, state)
            logits.append(one)
        return Segmented([torch.stack(logits, dim=1)], state)

    def segment_frame(
        self, features: QmvosFeatures, bank: Bank, state: Tensors
    ) -> tuple[Tensor, Tensors]:
        """Return the logits (B, O, h, w) at stride 4 of one frame, and the state after it."""
        key, selection = to_tokens(features.key), to_tokens(features.selection)
        read = read_memory(key, selection, bank, self.config.top_k)
        exists = None if bank.entry_valid is None else bank.entry_valid.any(dim=2)
        return self.decode(features, to_maps(read, features.f16.shape[-2:]), state, exists)

    def decode(
        self, features: QmvosFeatures, read: Tensor, state: Tensors, exists: Tensor | None
    ) -> tuple[Tensor, Tensors]:
        """Return logits and state of a frame from what was read of memory, (B, O, V, h, w).

        `exists` (B, O) tells which slots hold an object; None: all do.
        """
        hidden = to_maps(state["hidden_s16"].to(read.dtype), read.shape[-2:])
        before = state["query"][:, :, 0].to(read.dtype)
        logits, after = self.decoder(features.f16, features.skips, read, hidden, before, exists)
        if exists is not None:
            logits = torch.where(exists[:, :, None, None], logits, ABSENT)
        there = logits.new_ones(logits.shape[:2], dtype=torch.bool) if exists is None else exists
        height, width = features.images.shape[-2:]
        masks = self.soften(raise_logits(logits[:, None], (height, width)), there)[:, 0]
        query = self.injection(features.pooled_from, masks, before)
        tokens = to_tokens(after).unflatten(0, (logits.shape[0], -1))
        return logits, {"hidden_s16": tokens, "query": query[:, :, None]}

    def soften(self, logits: Tensor, exists: Tensor) -> Tensor:
        return aggregate_softly(logits.sigmoid(), exists)

    def rename_published(self, checkpoint: Mapping[str, Tensor]) -> Tensors:
        return rename_published(checkpoint, self.state_dict(), self.config.name)


def to_tokens(maps: Tensor) -> Tensor:
    """Return tokens (X, T, C) of maps (X, C, h, w)."""
    return maps.flatten(2).transpose(1, 2)


def to_maps(tokens: Tensor, size: tuple[int, int] | torch.Size) -> Tensor:
    """Return maps (B, O, C, h, w) of tokens (B, O, T, C)."""
    return tokens.transpose(2, 3).unflatten(3, tuple(size))
