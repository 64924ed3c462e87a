"""The named builds of QMVOS: the one file that chooses the numbers."""

from model.core.memory import Retention
from model.networks.qmvos.config import QmvosConfig

FIFTHS = Retention(every=5)
QMVOS_R50 = QmvosConfig(
    name="qmvos-r50",
    backbone="resnet50",
    value_backbone="resnet18",
    clip_length=1,
    max_clip_length=1,
    retention=FIFTHS,
    entry_by="memorize",
    memory_size=10,
    weights_license="GPL-3.0-only",  # of the authors' code, whose weights are not shipped
)
QMVOS_MOBILE = QmvosConfig(
    name="qmvos-mobile",
    backbone="mobilenet_v2",
    value_backbone="mobilenet_v2",
    key=32,
    value=128,
    hidden=32,
    mixed=64,
    widths=(64, 64, 96),
    heads=4,
    feedforward=256,
    norm_groups=16,
    top_k=None,  # late objects are exact then, and the CPU is spared a sort
    separable=True,
    clip_length=1,
    max_clip_length=1,
    retention=FIFTHS,
    entry_by="memorize",
    short_side=256,
    trained_memory_size=4,
    memory_size=6,
    weights_license="research use, see the model card",
)
QMVOS_BUILDS = (QMVOS_R50, QMVOS_MOBILE)
