"""The authors' checkpoint of STM under our names.

Reference: the published repository, `STM_weights.pth` of 2019, whose keys begin with `module.`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from model.networks.base import NetworkError, check_fit

# What of the authors' names becomes what of ours, longest first.
NAMES = {
    "Encoder_Q.res2": "backbone.layer1",
    "Encoder_Q.res3": "backbone.layer2",
    "Encoder_Q.res4": "backbone.layer3",
    "Encoder_Q": "backbone",
    "Encoder_M.res2": "memory_encoder.trunk.layer1",
    "Encoder_M.res3": "memory_encoder.trunk.layer2",
    "Encoder_M.res4": "memory_encoder.trunk.layer3",
    "Encoder_M": "memory_encoder.trunk",
    "KV_M_r4.Key": "memory_encoder.head.key",
    "KV_M_r4.Value": "memory_encoder.head.value",
    "KV_Q_r4.Key": "query_head.key",
    "KV_Q_r4.Value": "query_head.value",
    "Decoder.convFM": "decoder.join",
    "Decoder.ResMM": "decoder.block",
    "Decoder.RF3.convFS": "decoder.refine_s8.skip_conv",
    "Decoder.RF3.ResFS": "decoder.refine_s8.skip_block",
    "Decoder.RF3.ResMM": "decoder.refine_s8.block",
    "Decoder.RF2.convFS": "decoder.refine_s4.skip_conv",
    "Decoder.RF2.ResFS": "decoder.refine_s4.skip_block",
    "Decoder.RF2.ResMM": "decoder.refine_s4.block",
    "Decoder.pred2": "decoder.predict",
}
FIRST_LAYERS = ("Encoder_M.conv1", "Encoder_M.conv1_m", "Encoder_M.conv1_o")
CONSTANTS = (".mean", ".std", ".num_batches_tracked")


def rename_published(
    checkpoint: Mapping[str, Tensor], expected: Mapping[str, Tensor], build: str
) -> dict[str, Tensor]:
    """Return the authors' state dict as ours: their three first layers of the memory are one.

    `expected` is the state dict of the model it is for. Raise NetworkError naming a key that is
    unknown, missing, or of another shape.
    """
    theirs = {key.removeprefix("module."): value for key, value in checkpoint.items()}
    first = [theirs.pop(f"{name}.weight", None) for name in FIRST_LAYERS]
    ours = {rename_key(key): value for key, value in theirs.items() if not key.endswith(CONSTANTS)}
    if all(weight is not None for weight in first):
        ours["memory_encoder.trunk.conv1.weight"] = torch.cat(
            [weight for weight in first if weight is not None], dim=1
        )
    check_fit(ours, expected, build)
    return ours


def rename_key(key: str) -> str:
    """Return our name of one of the authors' keys; raise NetworkError for any other key."""
    theirs = next((theirs for theirs in NAMES if key.startswith(f"{theirs}.")), None)
    if theirs is not None:
        return NAMES[theirs] + key.removeprefix(theirs)
    raise NetworkError(f"unknown key {key!r} in the checkpoint")
