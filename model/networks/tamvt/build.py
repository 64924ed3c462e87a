"""Named builds of TAM-VT, and strict loading of weights: the one file that chooses the numbers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from model.networks.backbones import backbone
from model.networks.position import AdditiveTimeEncoding, RelativeTimeEncoding, TimeEncoding
from model.networks.tamvt.config import CENTERED, ModelConfig, TimeName
from model.networks.tamvt.mask_decoder import MaskDecoder
from model.networks.tamvt.mask_encoder import BackboneMaskEncoder, StemMaskEncoder
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.pixel_decoder import PixelDecoder

TAMVT_R50 = ModelConfig(name="tamvt-r50", backbone="resnet50")
TAMVT_MOBILE = ModelConfig(
    name="tamvt-mobile",
    backbone="mobilenet_v2",
    hidden=128,
    widths=(64, 128, 128, 128),
    decoder_layers=3,
    feedforward=512,
    norm_groups=16,
    dropout=0.0,
    mask_encoder="stem",
    normalization=CENTERED,
    trained_rows=4,
    short_side=256,
    memory_size=5,  # larger ones follow worse what was trained on few entries (docs/ablations.md)
)
# What the paper takes away or exchanges, and the paper's own mask encoder (docs/ablations.md).
ABLATIONS = (
    replace(TAMVT_MOBILE, name="tamvt-mobile-without-time", time="none"),
    replace(TAMVT_MOBILE, name="tamvt-mobile-additive-time", time="additive"),
    replace(TAMVT_MOBILE, name="tamvt-mobile-one-scale", scales=1),
    replace(TAMVT_MOBILE, name="tamvt-mobile-backbone-masks", mask_encoder="backbone"),
)
BUILDS = {config.name: config for config in (TAMVT_R50, TAMVT_MOBILE, *ABLATIONS)}


def build(config: ModelConfig) -> TamVT:
    """A model of the given numbers, with fresh weights (Xavier for the transformer's matrices)."""
    images = backbone(config.backbone)
    hidden, dropout = config.hidden, config.dropout
    stem = config.mask_encoder == "stem"
    model = TamVT(
        config,
        backbone=images,
        mask_encoder=StemMaskEncoder(images.channels, hidden, config.norm_groups)
        if stem
        else BackboneMaskEncoder(images.channels, hidden, scales=config.scales),
        matching_s32=Matching(hidden, config.matching_heads, dropout),
        matching_s16=Matching(hidden, config.matching_heads, dropout)
        if config.scales > 1
        else None,
        time=time_encoding(config.time, rows=config.time_rows),
        pixel_decoder=PixelDecoder(images.channels, config.widths, config.norm_groups),
        mask_decoder=MaskDecoder(
            hidden,
            config.widths[0],
            config.decoder_layers,
            config.decoder_heads,
            config.feedforward,
            dropout,
        ),
    )
    parts = (
        model.matching_s32,
        model.matching_s16,
        model.pixel_decoder,
        model.mask_decoder,
    )
    for part in parts:
        for weight in part.parameters() if part is not None else ():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
    images.freeze_stem()
    return model


def time_encoding(name: TimeName, *, rows: int) -> TimeEncoding:
    """A fresh time encoding for banks of up to `rows` entries; it changes nothing yet."""
    if name == "none":
        return TimeEncoding()
    return AdditiveTimeEncoding(rows) if name == "additive" else RelativeTimeEncoding(rows)


def load_weights(model: TamVT, path: Path) -> None:
    """Load our own weights (a state dict or a training checkpoint's `model`), strictly."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state.get("model", state))


# The authors' checkpoint keys and ours (reference: the published repository, 25 September 2024).
MATCHING_NAMES = {
    "fc_q.weight": "query.weight",
    "fc_k.weight": "key.weight",
    "fc_v.weight": "value.weight",
    "fc_o.weight": "output.weight",
    "pre_ln_q.weight": "norm.weight",
    "pre_ln_q.bias": "norm.bias",
    "ln.weight": "output_norm.weight",
    "ln.bias": "output_norm.bias",
}
LAYER_NAMES = {
    "self_attn": "self_attention",
    "cross_attn_image": "cross_attention",
    "linear1": "linear1",
    "linear2": "linear2",
    "norm1": "norm_self",
    "norm3": "norm_cross",
    "norm4": "norm_mlp",
}
TOP_NAMES = {
    "input_proj.res5": "project_s32",
    "input_proj.res4": "project_s16",
    "input_proj_query_mask.res5": "mask_encoder.project_s32",
    "input_proj_query_mask.res4": "mask_encoder.project_s16",
    "transformer.pixel_decoder.mask_features": "mask_decoder.mask_features",
    "transformer.decoder.norm": "mask_decoder.norm",
    "transformer.decoder.mask_embed.layers.0": "mask_decoder.mask_mlp.0",
    "transformer.decoder.mask_embed.layers.1": "mask_decoder.mask_mlp.1",
    "transformer.decoder.mask_embed.layers.2": "mask_decoder.mask_mlp.2",
}
SINGLE_KEYS = {
    "transformer.encoder.rel_time_theta.weight": "time.table",
    "transformer.decoder.level_embed.weight": "mask_decoder.level_embedding",
    "query_embed.visual.weight": "mask_decoder.query",
}
IGNORED = ("query_embed.text.", "bbox_embed.", "transformer.time_embed.")


def published_key(key: str) -> str | None:
    """Our name of one of the authors' checkpoint keys; None where the key is not used.

    Raises `ValueError` for a key that is not theirs.
    """
    if key.startswith(IGNORED):
        return None
    if key in SINGLE_KEYS:
        return SINGLE_KEYS[key]
    if key.startswith("backbone.0.body."):
        return key.replace("backbone.0.body.", "backbone.")
    stem, _, last = key.rpartition(".")
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{last}"
    for prefix, rename in (
        ("transformer.encoder.matching.", published_matching),
        ("transformer.pixel_decoder.", published_pixel_decoder),
        ("transformer.decoder.layers.", published_decoder_layer),
    ):
        if key.startswith(prefix):
            return rename(key.removeprefix(prefix))
    raise ValueError(f"unknown key {key!r} in the checkpoint")


def published_matching(key: str) -> str:
    """`0.fc_q.weight` -> `matching_s32.query.weight`; the two pre-norms are one parameter."""
    scale, _, name = key.partition(".")
    name = name.replace("pre_ln_k", "pre_ln_q")
    if scale not in ("0", "1") or name not in MATCHING_NAMES:
        raise ValueError(f"unknown key 'transformer.encoder.matching.{key}' in the checkpoint")
    return f"matching_{('s32', 's16')[int(scale)]}.{MATCHING_NAMES[name]}"


def published_pixel_decoder(key: str) -> str:
    """`adapter_1.norm.weight` -> `pixel_decoder.laterals.0.norm.weight`."""
    part, _, name = key.partition(".")
    kind, _, level = part.partition("_")
    lists = {"adapter": "laterals", "layer": "outputs"}
    if kind not in lists or level not in ("1", "2", "3", "4"):
        raise ValueError(f"unknown key 'transformer.pixel_decoder.{key}' in the checkpoint")
    name = name if name.startswith("norm.") else f"conv.{name}"
    return f"pixel_decoder.{lists[kind]}.{int(level) - 1}.{name}"


def published_decoder_layer(key: str) -> str:
    """`0.cross_attn_image.in_proj_weight` -> `mask_decoder.layers.0.cross_attention...`."""
    index, _, rest = key.partition(".")
    part, _, name = rest.partition(".")
    if part not in LAYER_NAMES or not name:
        raise ValueError(f"unknown key 'transformer.decoder.layers.{key}' in the checkpoint")
    return f"mask_decoder.layers.{index}.{LAYER_NAMES[part]}.{name}"


def load_published(model: TamVT, checkpoint: Mapping[str, Tensor]) -> None:
    """Load the authors' state dict (`model` or `model_ema` of their checkpoint) into `tamvt-r50`.

    Strict: raises `ValueError` naming a key that is unknown, missing, given twice with different
    values, or of another shape. A time table of another size raises too.
    """
    ours: dict[str, Tensor] = {}
    for key, value in checkpoint.items():
        name = published_key(key)
        if name is None:
            continue
        if name in ("time.table", "mask_decoder.query"):
            value = value.flatten()
        if name in ours and not torch.equal(ours[name], value):
            raise ValueError(f"checkpoint key {key!r} differs from its shared twin")
        ours[name] = value
    expected = model.state_dict()
    for name in (*expected, *ours):
        if name not in ours:
            raise ValueError(f"checkpoint has no key for {name!r}")
        if name not in expected:
            raise ValueError(f"checkpoint key for {name!r} has no place in {model.config.name}")
        if ours[name].shape != expected[name].shape:
            raise ValueError(
                f"{name!r}: checkpoint has shape {tuple(ours[name].shape)}, "
                f"{model.config.name} wants {tuple(expected[name].shape)}"
            )
    model.load_state_dict(ours)


def parameter_count(model: nn.Module) -> int:
    """How many numbers are parameters; BatchNorm's are buffers and do not count."""
    return sum(parameter.numel() for parameter in model.parameters())
