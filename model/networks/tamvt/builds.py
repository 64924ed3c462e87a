"""The named builds of TAM-VT: the one file that chooses the numbers."""

from dataclasses import replace

from model.networks.base import CENTERED
from model.networks.tamvt.config import TamvtConfig

TAMVT_R50 = TamvtConfig(name="tamvt-r50", backbone="resnet50")
TAMVT_MOBILE = TamvtConfig(
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
    trained_memory_size=4,
    short_side=256,
    fine_short_sides=(384, 512),
    fine_below_px=12.0,
    memory_size=5,  # larger ones follow worse what was trained on few entries (docs/ablations.md)
    weights_license="research use, see the model card",
)
# What the paper takes away or exchanges, and the paper's own mask encoder (docs/ablations.md).
ABLATIONS = (
    replace(TAMVT_MOBILE, name="tamvt-mobile-without-time", time="none"),
    replace(TAMVT_MOBILE, name="tamvt-mobile-additive-time", time="additive"),
    replace(TAMVT_MOBILE, name="tamvt-mobile-one-scale", scales=1),
    replace(TAMVT_MOBILE, name="tamvt-mobile-backbone-masks", mask_encoder="backbone"),
)
TAMVT_BUILDS = (TAMVT_R50, TAMVT_MOBILE, *ABLATIONS)
