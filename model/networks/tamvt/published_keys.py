"""The authors' checkpoint of TAM-VT under our names.

Reference: the published repository, 25 September 2024.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.networks.base import NetworkError, check_fit

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


def rename_key(key: str) -> str | None:
    """Return our name of one of the authors' keys, or None where nothing of it is used.

    Raise NetworkError for a key that is not theirs.
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
        ("transformer.encoder.matching.", _rename_matching),
        ("transformer.pixel_decoder.", _rename_pixel_decoder),
        ("transformer.decoder.layers.", _rename_decoder_layer),
    ):
        if key.startswith(prefix):
            return rename(key.removeprefix(prefix))
    raise NetworkError(f"unknown key {key!r} in the checkpoint")


def _rename_matching(key: str) -> str:
    """Return `matching_s32.query.weight` for `0.fc_q.weight`; both pre-norms are one parameter."""
    scale, _, name = key.partition(".")
    name = name.replace("pre_ln_k", "pre_ln_q")
    if scale not in ("0", "1") or name not in MATCHING_NAMES:
        raise NetworkError(f"unknown key 'transformer.encoder.matching.{key}' in the checkpoint")
    return f"matching_{('s32', 's16')[int(scale)]}.{MATCHING_NAMES[name]}"


def _rename_pixel_decoder(key: str) -> str:
    """Return `pixel_decoder.laterals.0.norm.weight` for `adapter_1.norm.weight`."""
    part, _, name = key.partition(".")
    kind, _, level = part.partition("_")
    lists = {"adapter": "laterals", "layer": "outputs"}
    if kind not in lists or level not in ("1", "2", "3", "4"):
        raise NetworkError(f"unknown key 'transformer.pixel_decoder.{key}' in the checkpoint")
    name = name if name.startswith("norm.") else f"conv.{name}"
    return f"pixel_decoder.{lists[kind]}.{int(level) - 1}.{name}"


def _rename_decoder_layer(key: str) -> str:
    """Return `mask_decoder.layers.0.cross_attention...` for `0.cross_attn_image...`."""
    index, _, rest = key.partition(".")
    part, _, name = rest.partition(".")
    if part not in LAYER_NAMES or not name:
        raise NetworkError(f"unknown key 'transformer.decoder.layers.{key}' in the checkpoint")
    return f"mask_decoder.layers.{index}.{LAYER_NAMES[part]}.{name}"


def rename_published(
    checkpoint: Mapping[str, Tensor], expected: Mapping[str, Tensor], build: str
) -> dict[str, Tensor]:
    """Return the authors' state dict (`model` or `model_ema` of their checkpoint) as ours.

    `expected` is the state dict of the model it is for. Raise NetworkError naming a key that is
    unknown, missing, given twice with different values, or of another shape.
    """
    ours: dict[str, Tensor] = {}
    for key, value in checkpoint.items():
        name = rename_key(key)
        if name is None:
            continue
        if name in ("time.table", "mask_decoder.query"):
            value = value.flatten()
        if name in ours and not torch.equal(ours[name], value):
            raise NetworkError(f"checkpoint key {key!r} differs from its shared twin")
        ours[name] = value
    check_fit(ours, expected, build)
    return ours
