"""QMVOS from its parts."""

from torch import nn

from model.networks.backbones import build_trunk
from model.networks.qmvos.config import QmvosConfig
from model.networks.qmvos.decoder import QueryDecoder
from model.networks.qmvos.keys import KeyProjection
from model.networks.qmvos.model import Qmvos
from model.networks.qmvos.queries import SemanticInjection
from model.networks.qmvos.value_encoder import ValueEncoder

FRESH_QUERY = 1 / 32  # the spread of a query that nothing has trained


def build_qmvos(config: QmvosConfig) -> Qmvos:
    """Return a QMVOS with fresh weights."""
    backbone = build_trunk(config.backbone)
    channels = backbone.channels
    network = Qmvos(
        config,
        backbone=backbone,
        keys=KeyProjection(channels[2], config.key),
        value_encoder=ValueEncoder(
            build_trunk(config.value_backbone, inputs=5), channels[2], config
        ),
        injection=SemanticInjection(channels, config),
        decoder=QueryDecoder(channels, config),
    )
    # A logit is the product of a query and a map. Both are large when they are fresh; with it, a
    # training would begin at a loss of 30 and spend its first hundred steps on that.
    nn.init.constant_(network.decoder.interaction.norm_mlp.weight, FRESH_QUERY)
    return network
