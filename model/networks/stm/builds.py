"""The named builds of STM: the one file that chooses the numbers."""

from model.core.memory import Retention
from model.networks.stm.config import StmConfig

FIFTHS_AND_NEWEST = Retention(every=5, recent=1)  # the paper's, up to the memory's size
STM_R50 = StmConfig(
    name="stm-r50",
    backbone="resnet50",
    clip_length=1,
    max_clip_length=1,
    memory_size=16,
    retention=FIFTHS_AND_NEWEST,
    weights_license="CC-BY-NC-SA-4.0",  # of the authors' file, which is not shipped
)
STM_MOBILE = StmConfig(
    name="stm-mobile",
    backbone="mobilenet_v2",
    key=64,
    value=128,
    widths=(32, 64, 64),
    norm_groups=8,
    clip_length=1,
    max_clip_length=1,
    retention=FIFTHS_AND_NEWEST,
    short_side=256,
    trained_memory_size=4,
    memory_size=6,
    weights_license="research use, see the model card",
)
STM_BUILDS = (STM_R50, STM_MOBILE)
