"""Convolutions with the frozen BatchNorm behind them folded in."""

from torch import Tensor, nn
from torch.nn import functional

from model.networks.backbones import FrozenBatchNorm, fit_channels, replace_norms


class FoldedConv(nn.Module):
    """A convolution with the fixed affine map behind it folded into its weight and bias."""

    def __init__(self, conv: nn.Conv2d, norm: FrozenBatchNorm) -> None:
        super().__init__()
        scale, shift = norm.fold_affine()
        self.weight = nn.Parameter(conv.weight.detach() * scale[:, None, None, None])
        self.bias = nn.Parameter(shift.detach().clone())
        self.stride, self.padding, self.groups = conv.stride, conv.padding, conv.groups

    def forward(self, x: Tensor) -> Tensor:
        weight = fit_channels(self.weight, x)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding, 1, self.groups)


def fold_norms(module: nn.Module) -> None:
    """Fold every frozen BatchNorm in a module, in place. For inference only."""
    replace_norms(module, FoldedConv)
