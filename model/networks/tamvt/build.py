"""TAM-VT put together from its parts, with fresh weights."""

from torch import nn

from model.networks.backbones import build_backbone
from model.networks.position import AdditiveTimeEncoding, RelativeTimeEncoding, TimeEncoding
from model.networks.tamvt.config import TamvtConfig, TimeName
from model.networks.tamvt.mask_decoder import MaskDecoder
from model.networks.tamvt.mask_encoder import BackboneMaskEncoder, StemMaskEncoder
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.pixel_decoder import PixelDecoder


def build_tamvt(config: TamvtConfig) -> TamVT:
    """Return a model of the given numbers (Xavier for the transformer's matrices)."""
    backbone = build_backbone(config.backbone)
    hidden, dropout = config.hidden, config.dropout
    stem = config.mask_encoder == "stem"
    model = TamVT(
        config,
        backbone=backbone,
        mask_encoder=StemMaskEncoder(backbone.channels, hidden, config.norm_groups)
        if stem
        else BackboneMaskEncoder(backbone.channels, hidden, scales=config.scales),
        matching_s32=Matching(hidden, config.matching_heads, dropout),
        matching_s16=Matching(hidden, config.matching_heads, dropout)
        if config.scales > 1
        else None,
        time=build_time_encoding(config.time, rows=config.time_rows),
        pixel_decoder=PixelDecoder(backbone.channels, config.widths, config.norm_groups),
        mask_decoder=MaskDecoder(
            hidden,
            config.widths[0],
            config.decoder_layers,
            config.decoder_heads,
            config.feedforward,
            dropout,
        ),
    )
    parts = (model.matching_s32, model.matching_s16, model.pixel_decoder, model.mask_decoder)
    for part in parts:
        for weight in part.parameters() if part is not None else ():
            if weight.ndim > 1:
                nn.init.xavier_uniform_(weight)
    backbone.freeze_stem()
    return model


def build_time_encoding(name: TimeName, *, rows: int) -> TimeEncoding:
    """Return a fresh time encoding for banks of up to `rows` entries; it changes nothing yet."""
    if name == "none":
        return TimeEncoding()
    return AdditiveTimeEncoding(rows) if name == "additive" else RelativeTimeEncoding(rows)
