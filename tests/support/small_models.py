"""The systems of the family as small graphs with random weights, under their builds' names.

Each is its network from its own parts, but for a trunk of five layers and few channels. To export
them takes minutes, so the graphs are in the repository; a test holds them to the networks. Write
them again with

    python -m tests.support.small_models
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from model.export.graph_export import export
from model.networks.backbones import MobileNetV2
from model.networks.base import TrackingNetwork
from model.networks.qmvos.builds import QMVOS_MOBILE
from model.networks.qmvos.decoder import QueryDecoder
from model.networks.qmvos.keys import KeyProjection
from model.networks.qmvos.model import Qmvos
from model.networks.qmvos.queries import SemanticInjection
from model.networks.qmvos.value_encoder import ValueEncoder
from model.networks.stm.builds import STM_MOBILE
from model.networks.stm.decoder import RefinementDecoder
from model.networks.stm.memory_encoder import KeyValue, MemoryEncoder
from model.networks.stm.model import Stm
from model.networks.stma.builds import STMA_MOBILE
from model.networks.stma.decoder import SlotDecoder
from model.networks.stma.model import StmaStyle
from model.networks.tamvt.build import build_time_encoding
from model.networks.tamvt.builds import TAMVT_MOBILE
from model.networks.tamvt.mask_decoder import MaskDecoder
from model.networks.tamvt.mask_encoder import StemMaskEncoder
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.pixel_decoder import PixelDecoder

SMALL_GRAPHS = Path(__file__).parent / "small_graphs"
SHORT_SIDE = 64
GAIN = 1.2
CHANNELS = (8, 8, 16)


class SmallTrunk(MobileNetV2):
    """Maps at strides 4, 8 and 16, by one block each."""

    STAGES = ((1, 8, 1, 1), (2, 8, 1, 2), (2, 8, 1, 2), (2, 16, 1, 2))
    TAPS = (2, 3, 4, 4)

    def __init__(self, *, inputs: int = 3) -> None:
        super().__init__(trunk=True, inputs=inputs)
        self.channels = CHANNELS


class SmallBackbone(MobileNetV2):
    """Maps at stride 32 as well."""

    STAGES = (*SmallTrunk.STAGES, (2, 16, 1, 2))
    TAPS = (2, 3, 4, 5)

    def __init__(self) -> None:
        super().__init__()
        self.channels = (*CHANNELS, 16)


def build_stm() -> Stm:
    config = replace(
        STM_MOBILE,
        short_side=SHORT_SIDE,
        memory_size=4,
        key=8,
        value=16,
        widths=(8, 8, 16),
        norm_groups=4,
    )
    heads = [KeyValue(CHANNELS[2], config.key, config.value) for _ in range(2)]
    return Stm(
        config,
        backbone=SmallTrunk(),
        query_head=heads[0],
        memory_encoder=MemoryEncoder(SmallTrunk(inputs=5), heads[1]),
        decoder=RefinementDecoder(CHANNELS, config),
    )


def build_qmvos() -> Qmvos:
    config = replace(
        QMVOS_MOBILE,
        short_side=SHORT_SIDE,
        memory_size=4,
        key=8,
        value=16,
        hidden=8,
        mixed=8,
        widths=(16, 16, 16),
        heads=2,
        feedforward=16,
        norm_groups=4,
    )
    return Qmvos(
        config,
        backbone=SmallTrunk(),
        keys=KeyProjection(CHANNELS[2], config.key),
        value_encoder=ValueEncoder(SmallTrunk(inputs=5), CHANNELS[2], config),
        injection=SemanticInjection(CHANNELS, config),
        decoder=QueryDecoder(CHANNELS, config),
    )


def build_stma() -> StmaStyle:
    config = replace(
        STMA_MOBILE,
        short_side=SHORT_SIDE,
        hidden=16,
        blocks=2,
        heads=2,
        feedforward=16,
        id_channels=8,
        widths=(8, 8),
        norm_groups=4,
    )
    return StmaStyle(config, backbone=SmallTrunk(), decoder=SlotDecoder(CHANNELS, config))


def build_tamvt() -> TamVT:
    config = replace(
        TAMVT_MOBILE,
        short_side=SHORT_SIDE,
        fine_short_sides=(),
        fine_below_px=0.0,
        memory_size=4,
        hidden=16,
        widths=(8, 16, 16, 16),
        matching_heads=2,
        decoder_layers=1,
        decoder_heads=2,
        feedforward=16,
        norm_groups=4,
    )
    hidden, channels = config.hidden, (*CHANNELS, 16)
    model = TamVT(
        config,
        backbone=SmallBackbone(),
        mask_encoder=StemMaskEncoder(channels, hidden, config.norm_groups),
        matching_s32=Matching(hidden, config.matching_heads, config.dropout),
        matching_s16=Matching(hidden, config.matching_heads, config.dropout),
        time=build_time_encoding(config.time, rows=config.time_rows),
        pixel_decoder=PixelDecoder(channels, config.widths, config.norm_groups),
        mask_decoder=MaskDecoder(
            hidden,
            config.widths[0],
            config.decoder_layers,
            config.decoder_heads,
            config.feedforward,
            config.dropout,
        ),
    )
    model.get_parameter("time.table").data.uniform_(0.5, 1.5)  # a wrong row shows
    return model


SYSTEMS: Mapping[str, Callable[[], TrackingNetwork]] = {
    "tamvt-mobile": build_tamvt,
    "stm-mobile": build_stm,
    "qmvos-mobile": build_qmvos,
    "stma-mobile": build_stma,
}


def build_small(name: str) -> TrackingNetwork:
    """Return a system with random weights, the same each time.

    They are large, so that every part of what is remembered shows in the masks.
    """
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = SYSTEMS[name]()
        for weight in network.parameters():
            if weight.ndim > 1:
                torch.nn.init.kaiming_normal_(weight)
                weight.data.mul_(GAIN)
    return network


if __name__ == "__main__":
    for system in sys.argv[1:] or SYSTEMS:
        export(build_small(system), SMALL_GRAPHS)
