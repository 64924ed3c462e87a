"""Image backbones: feature maps at strides 4, 8, 16 and 32; a trunk ends at stride 16.

Parameter names are torchvision's, so that public ImageNet weights load as they are.
B images, H and W their size; each stage gives ceil(x / 2) of the one before.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.errors import ModelError


class BackboneError(ModelError, ValueError):
    """A backbone that does not exist, or weights that are not its own."""


Maps = tuple[Tensor, ...]  # strides 4, 8, 16 and, but for a trunk, 32; each (B, C, h, w)


class Backbone(Protocol):
    """Images (B, 3, H, W) in, maps at strides 4, 8, 16 and 32 out."""

    channels: tuple[int, ...]

    def __call__(self, images: Tensor) -> Maps: ...


class FrozenBatchNorm(nn.Module):
    """BatchNorm as a fixed affine map: statistics, weight and bias are buffers, never trained."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def fold_affine(self) -> tuple[Tensor, Tensor]:
        """Return the affine map's factor and offset, each (C,)."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        return scale, self.bias - self.running_mean * scale


def convolve_and_norm(conv: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """Return the convolution of x and the frozen affine map behind it, as one convolution.

    The map goes into the weight, so no pass over the (much larger) activations is spent on it.
    """
    if isinstance(norm, nn.Identity):  # `replace_norms` put both into the convolution
        return conv(x)
    if not isinstance(conv, nn.Conv2d) or not isinstance(norm, FrozenBatchNorm):
        raise TypeError(f"expected a convolution and its frozen norm, not {conv} and {norm}")
    scale, shift = norm.fold_affine()
    weight = fit_channels(conv.weight * scale[:, None, None, None], x)
    return functional.conv2d(x, weight, shift, conv.stride, conv.padding, 1, conv.groups)


def fit_channels(weight: Tensor, x: Tensor) -> Tensor:
    """Return the first layer's weight for x: a mask's one channel stands for three equal ones."""
    one_for_three = x.shape[1] == 1 and weight.shape[1] == 3
    return weight.sum(dim=1, keepdim=True) if one_for_three else weight


class NormedConv(nn.Sequential):
    """Convolution, frozen affine map, and the activation behind them, if any."""

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, *activation = self
        x = convolve_and_norm(conv, norm, x)
        return activation[0](x) if activation else x


class Bottleneck(nn.Module):
    """Residual block of ResNet-50 v1.5: 1x1, 3x3 (carrying the stride), 1x1."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = FrozenBatchNorm(outputs)
        self.downsample = build_shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(convolve_and_norm(self.conv1, self.bn1, x))
        y = functional.relu(convolve_and_norm(self.conv2, self.bn2, y))
        return functional.relu(convolve_and_norm(self.conv3, self.bn3, y) + self.downsample(x))


class BasicBlock(nn.Module):
    """Residual block of ResNet-18: two 3x3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.bn1 = FrozenBatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = FrozenBatchNorm(width)
        self.downsample = build_shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(convolve_and_norm(self.conv1, self.bn1, x))
        return functional.relu(convolve_and_norm(self.conv2, self.bn2, y) + self.downsample(x))


def build_shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    """Return the path beside a residual block: an identity where sizes agree, else a 1x1."""
    if inputs == outputs and stride == 1:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return NormedConv(conv, FrozenBatchNorm(outputs))


class ResNet(nn.Module):
    """ResNet (He et al. 2016) with frozen BatchNorm and without its classifier.

    It has as many stages as `depths`; `inputs` are the channels of an image.
    """

    def __init__(
        self, block: type[Bottleneck | BasicBlock], depths: tuple[int, ...], *, inputs: int = 3
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, 64, 7, 2, padding=3, bias=False)
        self.bn1 = FrozenBatchNorm(64)
        widths = (64, 128, 256, 512)[: len(depths)]
        inputs = 64
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
            blocks = []
            for position in range(depth):
                stride = 2 if position == 0 and index > 1 else 1
                blocks.append(block(inputs, width, stride))
                inputs = width * block.expansion
            self.add_module(f"layer{index}", nn.Sequential(*blocks))
        self.channels = tuple(width * block.expansion for width in widths)

    def forward(self, images: Tensor) -> Maps:
        x = functional.relu(convolve_and_norm(self.conv1, self.bn1, images))
        x = functional.max_pool2d(x, 3, 2, padding=1)
        maps = []
        for index in range(1, len(self.channels) + 1):
            x = self.get_submodule(f"layer{index}")(x)
            maps.append(x)
        return tuple(maps)

    def freeze_stem(self) -> None:
        """Keep conv1 and layer1 as they are in training (TAM-VT's published code does)."""
        self.conv1.requires_grad_(False)
        self.get_submodule("layer1").requires_grad_(False)


class InvertedResidual(nn.Module):
    """MobileNetV2's block: expand 1x1, depthwise 3x3, project 1x1 (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inputs * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(build_convolution(inputs, width, kernel=1))
        layers += [
            build_convolution(width, width, stride=stride, groups=width),
            nn.Conv2d(width, outputs, 1, bias=False),
            FrozenBatchNorm(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        *expand, project, norm = self.conv
        y = x
        for layer in expand:
            y = layer(y)
        y = convolve_and_norm(project, norm, y)
        return x + y if self.residual else y


def build_convolution(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, groups: int = 1
) -> NormedConv:
    """Return a convolution with frozen BatchNorm and ReLU6."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return NormedConv(conv, FrozenBatchNorm(outputs), nn.ReLU6())


class MobileNetV2(nn.Module):
    """MobileNetV2 1.0 up to its last block (320 channels); the 1280-wide layer is not used.

    A trunk ends with the last block at stride 16; `inputs` are the channels of an image.
    """

    STAGES: tuple[tuple[int, int, int, int], ...] = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )
    TAPS: tuple[int, ...] = (3, 6, 13, 17)  # the last block at strides 4, 8, 16 and 32

    def __init__(self, *, trunk: bool = False, inputs: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = [build_convolution(inputs, 32, stride=2)]
        inputs = 32
        for expansion, outputs, repeats, stride in self.STAGES:
            for position in range(repeats):
                first = stride if position == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, first, expansion))
                inputs = outputs
        self.features = nn.Sequential(*layers[: self.TAPS[2] + 1] if trunk else layers)
        self.channels = (24, 32, 96) if trunk else (24, 32, 96, 320)

    def forward(self, images: Tensor) -> Maps:
        x, maps = images, []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.TAPS:
                maps.append(x)
        return tuple(maps)

    def freeze_stem(self) -> None:
        """Keep the layers up to stride 4 as they are: half a training step's time."""
        self.features[: self.TAPS[0] + 1].requires_grad_(False)


def build_backbone(name: str) -> ResNet | MobileNetV2:
    """Return a backbone by name, with fresh weights."""
    if name == "resnet50":
        return ResNet(Bottleneck, (3, 4, 6, 3))
    if name == "resnet18":
        return ResNet(BasicBlock, (2, 2, 2, 2))
    if name == "mobilenet_v2":
        return MobileNetV2()
    raise BackboneError(f"unknown backbone {name!r}: resnet50, resnet18 or mobilenet_v2")


def build_trunk(name: str, *, inputs: int = 3) -> ResNet | MobileNetV2:
    """Return a backbone that ends at stride 16, with fresh weights, for images of any channels."""
    if name == "resnet50":
        return ResNet(Bottleneck, (3, 4, 6), inputs=inputs)
    if name == "resnet18":
        return ResNet(BasicBlock, (2, 2, 2), inputs=inputs)
    if name == "mobilenet_v2":
        return MobileNetV2(trunk=True, inputs=inputs)
    raise BackboneError(f"unknown backbone {name!r}: resnet50, resnet18 or mobilenet_v2")


# How much wider fresh weights of masks spread than those of colors. A mask is 0 or 1 and spreads by
# 0.4 or less where normalized colors do by 1; weaker, and a training sees no masks for long.
MASK_SPREAD = 2.5
UNUSED = ("fc.", "classifier.", "features.18.")


def load_public_weights(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load torchvision-named ImageNet weights; the classifier and batch counters are left out.

    A trunk takes what it has; channels of an image beyond the colors stay fresh, and are made as
    strong as the colors', so that a mask is seen from the first step on. Raise BackboneError
    naming the first keys that are missing or not known.
    """
    unused = (*UNUSED, *list_left_out(module))
    kept = {
        key: widen_inputs(value, module.state_dict().get(key))
        for key, value in weights.items()
        if not key.startswith(unused) and not key.endswith("num_batches_tracked")
    }
    missing, unknown = module.load_state_dict(kept, strict=False)
    if missing or unknown:
        raise BackboneError(f"backbone weights: missing {missing[:3]}, unknown {unknown[:3]}")


def list_left_out(module: nn.Module) -> tuple[str, ...]:
    """Return how the keys begin of the layers that a trunk goes without."""
    if not isinstance(module, ResNet | MobileNetV2) or len(module.channels) == 4:
        return ()
    layers = range(MobileNetV2.TAPS[2] + 1, MobileNetV2.TAPS[3] + 1)
    return ("layer4.", *(f"features.{layer}." for layer in layers))


def widen_inputs(weight: Tensor, place: Tensor | None) -> Tensor:
    """Return a first layer's weight for an image of more channels, fresh ones as in `place`."""
    if place is None or weight.ndim != 4 or weight.shape[1] != 3 or place.shape[1] <= 3:
        return weight
    fresh = place[:, 3:]
    return torch.cat((weight, fresh * (MASK_SPREAD * weight.std() / fresh.std())), dim=1)


def replace_norms(
    module: nn.Module, replacement: Callable[[nn.Conv2d, FrozenBatchNorm], nn.Module]
) -> None:
    """Put `replacement(conv, norm)` in the place of every convolution with a frozen norm behind it.

    The norm itself becomes an identity.
    """
    for child in module.children():
        replace_norms(child, replacement)
    names = list(module._modules)
    for conv_name, norm_name in pairwise(names):
        conv, norm = module._modules[conv_name], module._modules[norm_name]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, FrozenBatchNorm):
            module._modules[conv_name] = replacement(conv, norm)
            module._modules[norm_name] = nn.Identity()
