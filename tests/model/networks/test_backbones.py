"""Backbones: public weights load by name, and folding their norms changes nothing."""

import copy

import pytest
import torch
from torch import Tensor, nn

from model.export.replacements.folded_norms import FoldedConv, fold_norms
from model.networks.backbones import FrozenBatchNorm, build_backbone
from model.networks.backbones import load_public_weights as load
from tests.model.networks.tamvt.published import published_shapes

NAMES = ("resnet50", "resnet18", "mobilenet_v2")
CLASSIFIER = {
    "resnet50": {"fc.weight": (1000, 2048), "fc.bias": (1000,)},
    "resnet18": {"fc.weight": (1000, 512), "fc.bias": (1000,)},
    "mobilenet_v2": {
        "features.18.0.weight": (1280, 320, 1, 1),
        "features.18.1.running_var": (1280,),
        "classifier.1.weight": (1000, 1280),
        "classifier.1.bias": (1000,),
    },
}
TORCHVISION_SHAPES = {
    "resnet18": {
        "conv1.weight": (64, 3, 7, 7),
        "bn1.running_mean": (64,),
        "layer1.1.conv2.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.0.downsample.1.running_var": (512,),
        "layer4.1.bn2.bias": (512,),
    },
    "mobilenet_v2": {
        "features.0.0.weight": (32, 3, 3, 3),
        "features.0.1.running_mean": (32,),
        "features.1.conv.0.0.weight": (32, 1, 3, 3),
        "features.1.conv.1.weight": (16, 32, 1, 1),
        "features.2.conv.1.1.bias": (96,),
        "features.2.conv.2.weight": (24, 96, 1, 1),
        "features.17.conv.3.running_var": (320,),
    },
}


def public_weights(name: str) -> dict[str, Tensor]:
    """Random weights as torchvision lays them out, classifier and batch counters included."""
    module = build_backbone(name)
    scramble(module)
    weights = dict(module.state_dict())
    for key in list(weights):
        if key.endswith("running_var"):
            weights[key.replace("running_var", "num_batches_tracked")] = torch.tensor(1)
    return weights | {key: torch.zeros(shape) for key, shape in CLASSIFIER[name].items()}


def scramble(module: nn.Module) -> None:
    """Statistics and affine maps that are not one and zero."""
    for norm in module.modules():
        if isinstance(norm, FrozenBatchNorm):
            norm.weight.uniform_(0.5, 1.0)
            norm.bias.normal_(std=0.1)
            norm.running_mean.normal_(std=0.1)
            norm.running_var.uniform_(0.5, 1.5)


@pytest.mark.parametrize("name", NAMES)
def test_public_weights_load_without_the_classifier(name: str) -> None:
    weights, module = public_weights(name), build_backbone(name)
    load(module, weights)
    assert all(torch.equal(tensor, weights[key]) for key, tensor in module.state_dict().items())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_parameters_have_torchvision_s_names_and_shapes(name: str) -> None:
    ours = {key: tuple(tensor.shape) for key, tensor in build_backbone(name).state_dict().items()}
    expected = TORCHVISION_SHAPES[name]
    assert {key: ours.get(key) for key in expected} == expected


def test_resnet50_has_torchvision_s_names_and_shapes() -> None:
    prefix = "backbone.0.body."
    published = published_shapes().items()
    expected = {key.removeprefix(prefix): s for key, s in published if key.startswith(prefix)}
    ours = {
        key: tuple(tensor.shape) for key, tensor in build_backbone("resnet50").state_dict().items()
    }
    assert ours == expected


def test_a_missing_key_is_named() -> None:
    weights = public_weights("resnet18")
    del weights["layer3.0.conv1.weight"]
    with pytest.raises(ValueError, match=r"missing \['layer3.0.conv1.weight'\]"):
        load(build_backbone("resnet18"), weights)


def test_an_unknown_key_is_named() -> None:
    weights = public_weights("mobilenet_v2") | {"features.2.conv.9.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"unknown \['features.2.conv.9.weight'\]"):
        load(build_backbone("mobilenet_v2"), weights)


def test_an_unknown_backbone_is_named() -> None:
    with pytest.raises(ValueError, match="'vgg16'"):
        build_backbone("vgg16")


@pytest.mark.parametrize("name", NAMES)
def test_each_map_has_half_the_size_rounded_up(name: str) -> None:
    module = build_backbone(name)
    with torch.inference_mode():
        maps = module(torch.randn(1, 3, 90, 150))
    assert [tuple(feature.shape) for feature in maps] == [
        (1, channels, *size)
        for channels, size in zip(
            module.channels, ((23, 38), (12, 19), (6, 10), (3, 5)), strict=True
        )
    ]


@pytest.mark.parametrize("name", NAMES)
def test_folding_the_norms_keeps_the_maps(name: str) -> None:
    module = build_backbone(name)
    scramble(module)
    folded = copy.deepcopy(module)
    fold_norms(folded)
    assert not any(isinstance(part, FrozenBatchNorm) for part in folded.modules())
    assert any(isinstance(part, FoldedConv) for part in folded.modules())
    images = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for ours, theirs in zip(folded(images), module(images), strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_frozen_norm_is_batch_norm_in_use() -> None:
    frozen, norm = FrozenBatchNorm(4), nn.BatchNorm2d(4).eval()
    scramble(frozen)
    norm.load_state_dict(frozen.state_dict(), strict=False)
    x = torch.randn(2, 4, 3, 3)
    scale, shift = (part[:, None, None] for part in frozen.fold_affine())
    torch.testing.assert_close(x * scale + shift, norm(x))


@pytest.mark.parametrize("name", NAMES)
def test_norms_are_never_trained(name: str) -> None:
    assert not any("bn" in key for key, _ in build_backbone(name).named_parameters())
    assert all(parameter.ndim == 4 for parameter in build_backbone(name).parameters())


def test_the_paper_s_stem_is_frozen() -> None:
    module = build_backbone("resnet50")
    module.freeze_stem()
    frozen = sum(p.numel() for p in module.parameters() if not p.requires_grad)
    assert frozen == 222_400
