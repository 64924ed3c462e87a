"""What stands in for readable parts where a clip step is recorded as a CUDA graph."""

from types import MappingProxyType

from torch import Tensor, nn

from model.export.replacements.shared_levels import SharedPixelDecoder
from model.networks.tamvt.matching import Matching
from model.networks.tamvt.pixel_decoder import PixelDecoder


class AllKnownMatching(Matching):
    """A matching for banks whose entries all know every object.

    `Matching` looks whether they do, and takes a second pass if not. A recorded graph cannot look:
    the host would have to wait for the device in the middle of it.
    """

    def __init__(self, matching: Matching) -> None:
        nn.Module.__init__(self)
        self.channels, self.heads, self.dropout = matching.channels, matching.heads, 0.0
        for name, part in matching.named_children():
            self.add_module(name, part)

    def measure_known_mass(
        self, query: Tensor, key: Tensor, present: Tensor | None, valid: Tensor
    ) -> Tensor:
        return query.new_ones((query.shape[0] * query.shape[1], self.heads * valid.shape[1]))


RECORDED_PARTS = MappingProxyType({Matching: AllKnownMatching, PixelDecoder: SharedPixelDecoder})
