"""A small tracking network that is nothing like TAM-VT: a shared token, and a recurrent state.

B sessions, L frames of a clip, N entries, O objects, H and W the input's size.
"""

from torch import Tensor, nn

from model.core.contract import BankTensor
from model.networks.base import (
    Bank,
    Features,
    NetworkConfig,
    Remembered,
    Segmented,
    Tensors,
    TrackingNetwork,
)

CHANNELS = 4
RECURRENT = NetworkConfig(name="recurrent", short_side=64, clip_length=1, memory_size=3)


class RecurrentNetwork(TrackingNetwork):
    """Mean colors as memory; what an object looked like last is its state, if it has one."""

    def __init__(self, config: NetworkConfig, *, stateful: bool = True) -> None:
        super().__init__(config)
        self.backbone = nn.Conv2d(3, CHANNELS, 3, 4, padding=1)
        self.scale = nn.Linear(1, 1)
        self.stateful = stateful

    @property
    def bank_tensors(self) -> tuple[BankTensor, ...]:
        return (
            BankTensor("scene", "float32", False, 0, CHANNELS),
            BankTensor("look", "float16", True, 0, CHANNELS),
        )

    @property
    def state_tensors(self) -> tuple[BankTensor, ...]:
        state = BankTensor("last", "float16", True, 0, CHANNELS)
        return (state,) if self.stateful else ()

    def encode_frames(self, images: Tensor) -> Features:
        return (self.backbone(images),)

    def memorize(
        self, features: Features, masks: Tensor, state: Tensors | None = None
    ) -> Remembered:
        (feature,) = features
        small = nn.functional.interpolate(masks, size=feature.shape[-2:], mode="area")
        weight = small.flatten(2)[:, :, None]  # (B, O, 1, h * w)
        area = weight.sum(-1).clamp(min=1e-3)
        look = (weight * feature.flatten(2)[:, None]).sum(-1) / area  # (B, O, C)
        entry = {"scene": feature.mean((-2, -1))[:, None], "look": look[:, :, None]}
        last = (state or {}).get("last", look[:, :, None])
        return Remembered(entry, {"last": (last + look[:, :, None]) / 2} if self.stateful else {})

    def segment(self, features: Features, bank: Bank, *, every_layer: bool = False) -> Segmented:
        (feature,) = features
        there = (bank.age >= 0)[:, :, None, None, None]
        look = (bank.tensors["look"] * there).sum(1) / there.sum(1)  # (B, O, 1, C)
        look = look - bank.tensors["scene"].mean(1)[:, None]
        if self.stateful:
            look = (look + bank.state["last"]) / 2
        frames = feature.unflatten(0, (bank.age.shape[0], -1))  # (B, L, C, h, w)
        logits = (frames[:, :, None] * look[:, None, :, 0, :, None, None]).sum(3)
        return Segmented([self.scale(logits[..., None])[..., 0]], bank.state)
