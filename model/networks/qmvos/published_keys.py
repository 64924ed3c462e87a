"""The authors' checkpoint of QMVOS under our names; all but `NAMES` keep their own.

Reference: the published repository, a fork of XMem, 2024.
"""

from collections.abc import Mapping

from torch import Tensor

from model.networks.base import NetworkError, check_fit

# What of the authors' names becomes what of ours, longest first.
NAMES = {
    "key_encoder.res2": "backbone.layer1",
    "key_encoder": "backbone",
    "key_proj.key_proj": "keys.key",
    "key_proj.d_proj": "keys.shrinkage",
    "key_proj.e_proj": "keys.selection",
    "value_encoder.hidden_reinforce": "value_encoder.deep_update",
    "value_encoder.fuser": "value_encoder.fusion",
    "value_encoder": "value_encoder.trunk",
    "input_proj": "injection.project",
    "simple_upsample_block.up.1": "injection.raise_conv",
    "simple_upsample_block.up.2": "injection.raise_norm",
    "simple_upsample_block.output_conv.0": "injection.join_conv",
    "simple_upsample_block.output_conv.1": "injection.join_norm",
    "query_SelfAtt_FFN.self_attn": "injection.attention.self_attention",
    "query_SelfAtt_FFN": "injection.attention",
    "decoder.hidden_update.transform": "decoder.state_update.gates.transform",
    "decoder.hidden_update.g16_conv": "decoder.state_update.coarse",
    "decoder.hidden_update.g8_conv": "decoder.state_update.middle",
    "decoder.hidden_update.g4_conv": "decoder.state_update.fine",
    "decoder.fuser": "decoder.fusion",
    "decoder.up_16_8.skip_conv": "decoder.up_s8.skip_conv",
    "decoder.up_16_8.out_conv": "decoder.up_s8.block",
    "decoder.up_8_4.skip_conv": "decoder.up_s4.skip_conv",
    "decoder.up_8_4.out_conv": "decoder.up_s4.block",
    "decoder.g16_proj": "decoder.project",
    "decoder.QCIM.self_attn": "decoder.interaction.self_attention",
    "decoder.QCIM.cross_attn": "decoder.interaction.cross_attention",
    "decoder.QCIM.norm1": "decoder.interaction.norm_cross",
    "decoder.QCIM.norm2": "decoder.interaction.norm_self",
    "decoder.QCIM.norm3": "decoder.interaction.norm_mlp",
    "decoder.QCIM": "decoder.interaction",
}
INNER_NAMES = {
    "attention.ChannelGate.mlp.1.": "attention.channel_mlp.0.",
    "attention.ChannelGate.mlp.3.": "attention.channel_mlp.2.",
    "attention.SpatialGate.spatial.conv.": "attention.spatial.",
}


def rename_published(
    checkpoint: Mapping[str, Tensor], expected: Mapping[str, Tensor], build: str
) -> dict[str, Tensor]:
    """Return the authors' state dict as ours.

    `expected` is the state dict of the model it is for. Raise NetworkError naming a key that is
    unknown, missing, or of another shape.
    """
    ours = {
        rename_key(key): value
        for key, value in checkpoint.items()
        if not key.endswith(".num_batches_tracked")
    }
    check_fit(ours, expected, build)
    return ours


def rename_key(key: str) -> str:
    """Return our name of one of the authors' keys; raise NetworkError for any other key."""
    theirs = next((theirs for theirs in NAMES if key.startswith(f"{theirs}.")), None)
    if theirs is None:
        raise NetworkError(f"unknown key {key!r} in the checkpoint")
    name = NAMES[theirs] + key.removeprefix(theirs)
    for part, ours in INNER_NAMES.items():
        name = name.replace(part, ours)
    return name
