"""TAM-VT as it is published, without any of our savings (arXiv 2312.08514). Start reading here.

It has the same parameters and gives the same logits as `TamVT`, by the long way. For every new
entry an image, a mask and its complement pass through the backbone. BatchNorms are passes of their
own. Keys and values of all entries are projected anew for every frame, and all attention logits are
in memory. The mask features are a map, and every decoder layer makes a mask. There is one object.
`tamvt-model bench` times the served graphs against it.

L frames of a clip, N entries, T tokens of a map, C channels, P heads, H and W the input's size.
"""

import copy
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import FrozenBatchNorm, replace_norms
from model.networks.base import NetworkError
from model.networks.position import frame_code, sine_position
from model.networks.tamvt.mask_decoder import LEVELS, DecoderLayer, FoldedAttention, MaskDecoder
from model.networks.tamvt.mask_encoder import BackboneMaskEncoder
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.pixel_decoder import Pyramid, map_of, tokens_of

LARGEST_LOGIT = 1e4


class ReferenceEntry(NamedTuple):
    """One remembered (frame, mask) of one object: tokens (1, T, C) before any projection."""

    image_s32: Tensor
    image_s16: Tensor
    mask_s32: Tensor
    mask_s16: Tensor


class SeparateNorm(nn.Module):
    """A convolution, and the frozen affine map behind it as a pass of its own."""

    def __init__(self, conv: nn.Conv2d, norm: FrozenBatchNorm) -> None:
        super().__init__()
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        scale, shift = self.norm.fold_affine()
        return self.conv(x) * scale[:, None, None] + shift[:, None, None]


class ReferenceTamVT:
    """A model's verbs the long way, for one session and one object.

    Raise NetworkError for a build that the paper does not describe.
    """

    def __init__(self, model: TamVT) -> None:
        if not isinstance(model.mask_encoder, BackboneMaskEncoder):
            raise NetworkError(f"{model.config.name} encodes masks in a way the paper does not")
        if model.config.time != "multiplicative" or not (model.matching_s16 and model.project_s16):
            raise NetworkError(f"{model.config.name} is an ablation of the paper's model")
        self.model, self.encoder = model, model.mask_encoder
        self.matching_s16, self.project_s16 = model.matching_s16, model.project_s16
        self.backbone = copy.deepcopy(model.backbone)
        replace_norms(self.backbone, SeparateNorm)

    def memorize(self, image: Tensor, mask: Tensor) -> ReferenceEntry:
        """Return the entry of a normalized image (1, 3, H, W) and a mask (H, W) in [0, 1]."""
        model = self.model
        _, _, image_s16, image_s32 = self.backbone(image)
        _, _, mask_s16, mask_s32 = self.backbone(mask.expand(1, 3, -1, -1))
        self.backbone(1 - mask.expand(1, 3, -1, -1))  # the published code reads nothing of it
        return ReferenceEntry(
            model.add_position(model.project_s32(image_s32)),
            model.add_position(self.project_s16(image_s16)),
            model.add_position(self.encoder.project_s32(mask_s32)),
            model.add_position(self.encoder.project_s16(mask_s16)),
        )

    def segment(self, images: Tensor, entries: Sequence[ReferenceEntry]) -> list[Tensor]:
        """Return logits (L, h, w) of images (L, 3, H, W), from every decoder layer in order.

        `entries` are oldest first, the reference at their head.
        """
        model = self.model
        maps = self.backbone(images)
        age = torch.arange(len(entries) - 1, -1, -1)[None]
        factor = model.time(age)[0]
        image_s32, image_s16, mask_s32, mask_s16 = map(torch.cat, zip(*entries, strict=True))
        tokens_s32 = model.add_position(model.project_s32(maps[3]))
        tokens_s16 = model.add_position(self.project_s16(maps[2]))
        read_s32 = [match(model.matching_s32, q, image_s32, mask_s32, factor) for q in tokens_s32]
        read_s16 = [match(self.matching_s16, q, image_s16, mask_s16, factor) for q in tokens_s16]
        pyramid = model.pixel_decoder(
            maps,
            map_of(torch.stack(read_s32)[:, None], maps[3]),
            map_of(torch.stack(read_s16)[:, None], maps[2]),
        )
        return decode(model.mask_decoder, pyramid)


def match(
    matching: Matching, tokens: Tensor, images: Tensor, masks: Tensor, factor: Tensor
) -> Tensor:
    """Return what the memory says at each token of one frame, (T, C).

    tokens (T, C), images and masks (N, T, C), factor (N,).
    """
    heads = matching.heads
    query = matching.query(matching.norm(tokens)).unflatten(1, (heads, -1)).transpose(0, 1)
    key = matching.project_key(images).flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1)
    value = matching.project_value(masks).flatten(0, 1).unflatten(1, (heads, -1)).transpose(0, 1)
    logits = query @ key.transpose(1, 2) / matching.channels**0.5  # (P, T, N * T)
    logits = logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    logits = logits * factor.repeat_interleave(images.shape[1])
    read = (logits.softmax(dim=-1) @ value).transpose(0, 1).flatten(1)
    y = matching.output_norm(read)
    return y + functional.gelu(matching.output(y))


def decode(decoder: MaskDecoder, pyramid: Pyramid) -> list[Tensor]:
    """Return logits (L, h, w) after every layer; the pyramid's maps are (L, C, h, w)."""
    features = decoder.mask_features(pyramid.s4)
    coarse = (pyramid.s32, pyramid.s16, pyramid.s8)
    levels = [tokens_of(feature) for feature in coarse]
    places = [sine_position(feature, decoder.channels) for feature in coarse]
    code = decoder.query + frame_code(features.shape[0], decoder.channels, decoder.query)
    state = torch.zeros_like(code)
    logits = []
    for index, layer in enumerate(decoder.layers):
        level = index % LEVELS
        tokens = levels[level] + decoder.level_embedding[level]
        state = refine(cast(DecoderLayer, layer), state, code, tokens, places[level])
        logits.append(predict_masks(decoder, state, features))
    return logits


def refine(
    layer: DecoderLayer, state: Tensor, code: Tensor, tokens: Tensor, place: Tensor
) -> Tensor:
    """Return the next state (L, C); code (L, C), tokens (L, T, C), place (T, C)."""
    query = (state + code)[None]
    state = layer.norm_self(state + attend(layer.self_attention, query, query, state[None])[0])
    query = (state + code)[:, None]
    read = attend(layer.cross_attention, query, tokens + place, tokens)
    state = layer.norm_cross(state + read[:, 0])
    return layer.norm_mlp(state + layer.linear2(functional.relu(layer.linear1(state))))


def attend(attention: FoldedAttention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return PyTorch's multi-head attention, all keys and values projected: (X, Q, C)."""
    read, _ = functional.multi_head_attention_forward(
        query.transpose(0, 1),
        key.transpose(0, 1),
        value.transpose(0, 1),
        embed_dim_to_check=query.shape[-1],
        num_heads=attention.heads,
        in_proj_weight=attention.in_proj_weight,
        in_proj_bias=attention.in_proj_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=attention.out_proj.weight,
        out_proj_bias=attention.out_proj.bias,
        training=False,
        need_weights=False,
    )
    return read.transpose(0, 1)


def predict_masks(decoder: MaskDecoder, state: Tensor, features: Tensor) -> Tensor:
    """Return logits (L, h, w) of states (L, C) and mask features (L, C, h, w)."""
    token = decoder.norm(state)
    for linear in decoder.mask_mlp[:-1]:
        token = functional.relu(linear(token))
    return torch.einsum("lc,lchw->lhw", decoder.mask_mlp[-1](token), features)
