"""The named builds: the one file that chooses the numbers."""

from model.core.memory import Retention
from model.networks.stma.config import StmaConfig

STMA_MOBILE = StmaConfig(
    name="stma-mobile",
    backbone="mobilenet_v2",
    hidden=128,
    heads=4,
    feedforward=256,
    widths=(32, 64),
    norm_groups=8,
    short_side=256,
    clip_length=1,
    memory_size=3,
    trained_memory_size=3,
    max_objects=10,
    retention=Retention(every=5, recent=1),
    weights_license="research use, see the model card",
)
STMA_BUILDS = (STMA_MOBILE,)
