"""The STMA-style network from its parts."""

from model.networks.backbones import build_trunk
from model.networks.stma.config import StmaConfig
from model.networks.stma.decoder import SlotDecoder
from model.networks.stma.model import StmaStyle


def build_stma(config: StmaConfig) -> StmaStyle:
    """Return an STMA-style network with fresh weights."""
    backbone = build_trunk(config.backbone)
    return StmaStyle(config, backbone=backbone, decoder=SlotDecoder(backbone.channels, config))
