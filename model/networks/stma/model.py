"""The STMA-style network: two verbs over entries whose blocks are computed once.

B sessions, L frames of a clip, X frames (B * L), N entries, O objects, T tokens of stride 16,
K blocks, C channels, D channels of IDs, H and W the input's size, h and w a map's.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.core.contract import BankTensor
from model.networks.backbones import MobileNetV2, ResNet
from model.networks.base import Bank, Remembered, Segmented, Tensors, TrackingNetwork
from model.networks.position import sine_position
from model.networks.stma.blocks import (
    HIDDEN,
    Block,
    BlockView,
    associate_reference,
    associate_test,
)
from model.networks.stma.config import StmaConfig
from model.networks.stma.decoder import SlotDecoder

STRIDE = 16
LEAST_AREA = 1e-3


class StmaFeatures(NamedTuple):
    """What the trunk says of frames, once for all objects."""

    tokens: Tensor  # (X, T, C), with their sine position
    skips: tuple[Tensor, Tensor]  # at strides 8 and 4


class StmaStyle(TrackingNetwork):
    """The model. All objects are followed in parallel, at most as many as there are slots."""

    aggregated = True
    config: StmaConfig

    def __init__(
        self, config: StmaConfig, *, backbone: ResNet | MobileNetV2, decoder: SlotDecoder
    ) -> None:
        super().__init__(config)
        self.slots = config.slots
        self.backbone, self.decoder = backbone, decoder
        hidden, ids = config.hidden, config.id_channels
        self.project = nn.Conv2d(backbone.channels[2], hidden, 1)
        self.embed_ids = nn.Conv2d(config.slots + 1, hidden, STRIDE, STRIDE)
        self.slot = nn.Parameter(torch.zeros(config.slots, hidden))
        self.blocks = nn.ModuleList(
            Block(hidden, config.heads, config.feedforward) for _ in range(config.blocks)
        )
        self.norm = nn.LayerNorm(hidden)
        self.id_key = nn.Linear(hidden, ids)
        self.id_value = nn.Linear(2 * hidden, ids)
        nn.init.normal_(self.slot, std=0.02)
        # The ID of an object that fills a token is as large as the token.
        nn.init.normal_(self.embed_ids.weight, std=1 / STRIDE)

    @property
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        wide, ids = self.config.blocks * self.config.hidden, self.config.id_channels
        return (
            BankTensor("reference_key_s16", "float16", False, STRIDE, wide),
            BankTensor("reference_value_s16", "float16", False, STRIDE, wide),
            BankTensor("object_key", "float16", True, 0, wide),
            BankTensor("object_value", "float16", True, 0, wide),
            BankTensor("id_key_s16", "float16", False, STRIDE, ids),
            BankTensor("id_value_s16", "float16", False, STRIDE, ids),
        )

    def encode_frames(self, images: Tensor) -> StmaFeatures:
        s4, s8, s16 = self.backbone(images)
        feature = self.project(s16)
        position = sine_position(feature, self.config.hidden)
        tokens = feature.flatten(2).transpose(1, 2) + position.to(feature.dtype)
        return StmaFeatures(tokens, (s8, s4))

    def memorize(
        self, features: StmaFeatures, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        objects, slots = masks.shape[1], self.config.slots
        background = (1 - masks.sum(dim=1, keepdim=True)).clamp(0, 1)
        unused = (0, 0, 0, 0, 0, slots - objects)
        ids = self.embed_ids(torch.cat((background, functional.pad(masks, unused)), dim=1))
        ids = ids.flatten(2).transpose(1, 2)  # (B, T, C)
        size = (masks.shape[2] // STRIDE, masks.shape[3] // STRIDE)
        share = functional.interpolate(masks, size=size, mode="area").flatten(2)  # (B, O, T)
        mean = share @ features.tokens / (share.sum(dim=2, keepdim=True) + LEAST_AREA)
        # An object that is not in this frame is not looked at in its entry.
        exists = masks.amax(dim=(2, 3)) > 0
        of_reference, of_objects, last = associate_reference(
            self.blocks, features.tokens + ids, mean + self.slot[:objects], exists
        )
        reference, each = stack_blocks(of_reference), stack_blocks(of_objects)
        seen = exists[:, :, None].to(masks.dtype)
        # Where the value is zero the key is too: segment knows by it that nobody is there.
        return Remembered(
            {
                "reference_key_s16": reference.key,
                "reference_value_s16": reference.value,
                "object_key": (each.key * seen)[:, :, None],
                "object_value": (each.value * seen)[:, :, None],
                "id_key_s16": self.id_key(features.tokens),
                "id_value_s16": self.id_value(torch.cat((self.norm(last), ids), dim=2)),
            },
            {},
        )

    def segment(
        self, features: StmaFeatures, bank: Bank, *, every_layer: bool = False
    ) -> Segmented:
        batch, objects = bank.age.shape[0], bank.tensors["object_key"].shape[2]
        length = features.tokens.shape[0] // batch
        stored = {name: tensor.to(features.tokens.dtype) for name, tensor in bank.tensors.items()}
        present = bank.age >= 0 if bank.present is None else bank.present  # (B, N)
        known = (stored["object_value"] != 0).any(dim=4)[..., 0]  # (B, N, O)
        if bank.entry_valid is not None:
            known = known & bank.entry_valid.transpose(1, 2)
        mask = hide_memory(present, known, stored["reference_key_s16"].shape[2])
        memory = list_blocks(stored, self.config.blocks)
        # Frames do not look at each other: each is a session of its own here.
        mask, present = repeat_frames(mask, length), repeat_frames(present, length)
        memory = [BlockView(*(repeat_frames(part, length) for part in view)) for view in memory]
        stored = {name: repeat_frames(tensor, length) for name, tensor in stored.items()}
        found = self.norm(associate_test(self.blocks, features.tokens, memory, mask))
        read = self.read_ids(features.tokens, stored, present)
        size = (features.skips[0].shape[-2] // 2, features.skips[0].shape[-1] // 2)
        test_map, id_map = (each.transpose(1, 2).unflatten(2, size) for each in (found, read))
        every = self.decoder(test_map, id_map, features.skips)
        # Relative to the background: `soften` makes them probabilities of all slots.
        logits = every[:, 1 : objects + 1] - every[:, :1]
        return Segmented([logits.unflatten(0, (batch, length))], {})

    def read_ids(self, test: Tensor, stored: Tensors, present: Tensor) -> Tensor:
        """Return the ID feature (X, T, D) of test frames, each from every stored frame."""
        query = self.id_key(test)
        key, value = (stored[f"id_{part}_s16"].flatten(1, 2) for part in ("key", "value"))
        tokens = stored["id_key_s16"].shape[2]
        hidden = torch.where(present, 0.0, HIDDEN)[..., None].expand(-1, -1, tokens)
        logits = query @ key.transpose(1, 2) * query.shape[2] ** -0.5 + hidden.flatten(1)[:, None]
        return logits.softmax(dim=-1) @ value

    def soften(self, logits: Tensor, exists: Tensor) -> Tensor:
        there = exists[:, None, :, None, None]
        every = torch.where(there, logits, HIDDEN)
        with_background = functional.pad(every, (0, 0, 0, 0, 1, 0))
        return with_background.softmax(dim=2)[:, :, 1:]

    def compete(self, logits: Tensor, exists: Tensor) -> Tensor:
        there = exists[:, :, None, None, None]
        every = functional.pad(torch.where(there, logits, HIDDEN), (0, 0, 0, 0, 0, 0, 1, 0))
        # Against the background and all others: the logit of `soften`.
        others = [
            torch.cat((every[:, : slot + 1], every[:, slot + 2 :]), dim=1).logsumexp(dim=1)
            for slot in range(logits.shape[1])
        ]
        return every[:, 1:] - torch.stack(others, dim=1)


def repeat_frames(tensor: Tensor, length: int) -> Tensor:
    """Return a tensor (B, ...) of sessions for each frame of their clips, (B * L, ...)."""
    return tensor[:, None].expand(-1, length, *tensor.shape[1:]).flatten(0, 1)


def stack_blocks(views: list[BlockView]) -> BlockView:
    """Return what all blocks show of tokens, side by side, (B, Q, K * C)."""
    return BlockView(*(torch.cat(parts, dim=-1) for parts in zip(*views, strict=True)))


def list_blocks(stored: Tensors, blocks: int) -> list[BlockView]:
    """Return each block's view of all entries and their objects, (B, N * T + N * O, C)."""
    views = []
    for name in ("key", "value"):
        reference = stored[f"reference_{name}_s16"].flatten(1, 2)
        objects = stored[f"object_{name}"].flatten(1, 3)
        views.append(torch.cat((reference, objects), dim=1).chunk(blocks, dim=-1))
    return [BlockView(key, value) for key, value in zip(*views, strict=True)]


def hide_memory(present: Tensor, known: Tensor, tokens: int) -> Tensor:
    """Return what is added to the logits of all entries and their objects, (B, 1, N * T + N * O).

    present (B, N) are slots that hold an entry, known (B, N, O) the objects in each.
    """
    reference = present[..., None].expand(-1, -1, tokens).flatten(1)
    objects = (known & present[..., None]).flatten(1)
    return torch.where(torch.cat((reference, objects), dim=1), 0.0, HIDDEN)[:, None]
