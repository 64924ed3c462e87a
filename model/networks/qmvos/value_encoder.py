"""The value of an object in a frame, and the deep update of its state (XMem, section 3.3).

B sessions, O objects, C channels, H and W the input's size, h and w the size at stride 16.
"""

import torch
from torch import Tensor, nn

from model.networks.backbones import MobileNetV2, ResNet
from model.networks.qmvos.config import QmvosConfig
from model.networks.qmvos.fusion import Fusion
from model.networks.qmvos.hidden_state import GatedUpdate


class ValueEncoder(nn.Module):
    """A trunk over frame, object and other objects (five channels), fused with the frame's map.

    The value does not depend on the hidden state; the state takes the value in.
    """

    def __init__(self, trunk: ResNet | MobileNetV2, frame: int, config: QmvosConfig) -> None:
        super().__init__()
        self.trunk = trunk
        self.fusion = Fusion(frame, trunk.channels[2], config.value)
        self.deep_update = GatedUpdate(config.value, config.hidden)

    def forward(self, images: Tensor, f16: Tensor, masks: Tensor) -> Tensor:
        """Return values (B * O, V, h, w) of images (B, 3, H, W) with masks (B, O, H, W)."""
        objects = masks.shape[1]
        others = masks.sum(dim=1, keepdim=True) - masks
        seen = images[:, None].expand(-1, objects, -1, -1, -1)
        stacked = torch.cat((seen, masks[:, :, None], others[:, :, None]), dim=2)
        coarse = self.trunk(stacked.flatten(0, 1))[-1]
        return self.fusion(f16, coarse.unflatten(0, (-1, objects)))
