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
    query_head = KeyValue(width, config.key, config.value)
    memory_head = KeyValue(width, config.key, config.value)
    # So a frame finds its own places in the memory from a training's first step on. Keys that begin
    # apart find others, just as surely.
    memory_head.key.load_state_dict(query_head.key.state_dict())
    return Stm(
        config,
        backbone=backbone,
        query_head=query_head,
        memory_encoder=MemoryEncoder(build_trunk(config.backbone, inputs=5), memory_head),
        decoder=RefinementDecoder(backbone.channels, config),
    )
