"""The prompt network: what it is told lies where it should, and any size will do."""

import pytest
import torch
from torch import Tensor

from model.core.prompt_contract import BOX_END, BOX_START, ON_BACKGROUND, ON_OBJECT, PADDING
from model.networks.prompt.network import PromptConfig, PromptNetwork, build_prompt_network
from model.networks.prompt.prompt_maps import draw_prompts

SMALL = PromptConfig(width=16, layers=1, decoder=(8, 8))


@pytest.fixture(scope="module")
def network() -> PromptNetwork:
    torch.manual_seed(0)
    return build_prompt_network(SMALL).eval()


def draw(points: list[tuple[float, float, int]], previous: Tensor | None = None) -> Tensor:
    """The maps (K, 16, 24) of points in a picture of 64 x 96."""
    told = torch.tensor([points])
    so_far = torch.zeros(1, 64, 96) if previous is None else previous
    return draw_prompts(told[..., :2], told[..., 2].int(), so_far)[0]


def test_clicks_are_drawn_where_they_are() -> None:
    maps = draw([(41.5, 21.5, ON_OBJECT), (0, 0, PADDING)])
    near, far, spared_near, spared_far, *others = maps
    assert near[5, 10] == near.max() == 1
    assert far.mean() > near.mean()
    assert not any(each.any() for each in (spared_near, spared_far, *others))
    spared = draw([(41.5, 21.5, ON_BACKGROUND)])
    assert torch.equal(spared[2:4], maps[:2])


def test_a_box_is_filled_and_half_a_box_is_none() -> None:
    maps = draw([(7.5, 15.5, BOX_START), (47.5, 31.5, BOX_END)])
    inside = maps[4]
    assert torch.equal(inside[4:8, 2:12], torch.ones(4, 10))
    assert inside.sum() == 40
    assert maps[5].min() == 1
    assert not draw([(8, 16, BOX_START)])[4:6].any()


def test_a_mask_so_far_is_told_from_none() -> None:
    previous = torch.zeros(1, 64, 96)
    previous[:, :32, :48] = 1
    maps = draw([(0, 0, PADDING)], previous)
    assert torch.equal(maps[6, :8, :12], torch.ones(8, 12))
    assert maps[6].sum() == 96
    assert maps[7].min() == 1
    assert not draw([(0, 0, PADDING)])[6:].any()


@pytest.mark.parametrize("size", [(64, 64), (96, 64)])
def test_every_size_gives_logits_at_stride_four(
    network: PromptNetwork, size: tuple[int, int]
) -> None:
    images = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    points, labels = torch.tensor([[[9.0, 9.0]], [[40.0, 20.0]]]), torch.ones(2, 1).int()
    logits, scores = network(images, points, labels, torch.zeros(2, *size))
    assert logits.shape == (2, 1, size[0] // 4, size[1] // 4)
    assert scores.shape == (2,)


def test_each_picture_of_a_batch_is_seen_alone(network: PromptNetwork) -> None:
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    points, labels = torch.tensor([[[9.0, 9.0]], [[40.0, 20.0]]]), torch.ones(2, 1).int()
    together = network(images, points, labels, torch.zeros(2, 64, 64))
    alone = network(images[1:], points[1:], labels[1:], torch.zeros(1, 64, 64))
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one[1:], other, atol=1e-5)


def test_padding_changes_nothing(network: PromptNetwork) -> None:
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    previous = torch.zeros(1, 64, 64)
    point, padded = torch.tensor([[[9.0, 9.0]]]), torch.tensor([[[9.0, 9.0], [40.0, 40.0]]])
    bare, _ = network(image, point, torch.tensor([[ON_OBJECT]]), previous)
    with_padding, _ = network(image, padded, torch.tensor([[ON_OBJECT, PADDING]]), previous)
    assert torch.allclose(bare, with_padding, atol=1e-6)
    elsewhere, _ = network(image, point + 30, torch.tensor([[ON_OBJECT]]), previous)
    assert not torch.allclose(bare, elsewhere, atol=1e-3)
