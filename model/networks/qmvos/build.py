"""QMVOS from its parts."""

from model.networks.backbones import build_trunk
from model.networks.qmvos.config import QmvosConfig
from model.networks.qmvos.decoder import QueryDecoder
from model.networks.qmvos.keys import KeyProjection
from model.networks.qmvos.model import Qmvos
from model.networks.qmvos.queries import SemanticInjection
from model.networks.qmvos.value_encoder import ValueEncoder


def build_qmvos(config: QmvosConfig) -> Qmvos:
    """Return a QMVOS with fresh weights."""
    backbone = build_trunk(config.backbone)
    channels = backbone.channels
    return Qmvos(
        config,
        backbone=backbone,
        keys=KeyProjection(channels[2], config.key),
        value_encoder=ValueEncoder(
            build_trunk(config.value_backbone, inputs=5), channels[2], config
        ),
        injection=SemanticInjection(channels, config),
        decoder=QueryDecoder(channels, config),
    )
