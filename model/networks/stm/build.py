"""STM from its parts."""

from model.networks.backbones import build_trunk
from model.networks.stm.config import StmConfig
from model.networks.stm.decoder import RefinementDecoder
from model.networks.stm.memory_encoder import KeyValue, MemoryEncoder
from model.networks.stm.model import Stm


def build_stm(config: StmConfig) -> Stm:
    """Return an STM with fresh weights."""
    backbone = build_trunk(config.backbone)
    width = backbone.channels[2]
    return Stm(
        config,
        backbone=backbone,
        query_head=KeyValue(width, config.key, config.value),
        memory_encoder=MemoryEncoder(
            build_trunk(config.backbone, inputs=5), KeyValue(width, config.key, config.value)
        ),
        decoder=RefinementDecoder(backbone.channels, config),
    )
