"""The pixel decoder with objects that share their work, against itself without."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from model.export.replacements.shared_levels import DoubledConv, SharedPixelDecoder
from model.networks.tamvt.pixel_decoder import PixelDecoder

CHANNELS = (6, 8, 10, 12)
FRAMES = 2


@pytest.fixture(params=[(16, 16, 16, 16), (8, 16, 16, 16)], ids=["even", "narrow at stride 4"])
def decoder(request: pytest.FixtureRequest) -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(CHANNELS, request.param, groups=4).eval()


def inputs(*, objects: int) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """A backbone's maps of 64x96 frames, and what matching found."""
    torch.manual_seed(1)
    maps = tuple(
        torch.randn(FRAMES, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(CHANNELS, (4, 8, 16, 32), strict=True)
    )
    found = (torch.randn(FRAMES, objects, 16, 64 // stride, 96 // stride) for stride in (32, 16))
    return maps, next(found), next(found)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (8, 4)])
def test_four_small_convolutions_are_the_one_of_the_doubled_map(size: tuple[int, int]) -> None:
    torch.manual_seed(2)
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=False)
    x = torch.randn(2, 5, *size)
    with torch.no_grad():
        expected = conv(functional.interpolate(x, scale_factor=2, mode="nearest"))
        torch.testing.assert_close(DoubledConv(conv.weight)(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("objects", [1, 2, 3])
def test_objects_that_share_get_the_same_maps(decoder: PixelDecoder, objects: int) -> None:
    sharing = SharedPixelDecoder(copy.deepcopy(decoder))
    given = inputs(objects=objects)
    for found, expected in zip(sharing(*given), decoder(*given), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_single_object_has_nobody_to_share_with(decoder: PixelDecoder) -> None:
    sharing = SharedPixelDecoder(copy.deepcopy(decoder))
    given = inputs(objects=1)
    for found, expected in zip(sharing(*given), decoder(*given), strict=True):
        assert torch.equal(found, expected)


def test_what_is_shared_is_no_weight_of_the_model(decoder: PixelDecoder) -> None:
    assert list(SharedPixelDecoder(decoder).state_dict()) == list(decoder.state_dict())
