"""The long way and ours say the same, so that timing one against the other is fair."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.networks.tamvt.build import BUILDS, build
from model.networks.tamvt.model import Bank, TamVT
from model.networks.tamvt.reference import ReferenceEntry, ReferenceTamVT

SIZE = (64, 96)


def test_the_long_way_gives_the_same_logits(published_model: TamVT) -> None:
    plain, images, masks = (
        ReferenceTamVT(published_model),
        torch.randn(5, 3, *SIZE),
        torch.rand(3, *SIZE),
    )
    with torch.inference_mode():
        seen = published_model.look(images)
        entries = published_model.memorize(seen.at(slice(0, 3)), masks[:, None])
        bank = Bank(*(tensor[None] for tensor in entries))
        age = torch.tensor([[2, 1, 0]])
        fast = published_model.segment(
            seen.at(slice(3, 5)), bank, published_model.recency(age), every_layer=True
        )
        remembered = [
            plain.memorize(image[None], mask) for image, mask in zip(images[:3], masks, strict=True)
        ]
        slow = plain.segment(images[3:], remembered)
    assert len(slow) == len(fast) == published_model.config.decoder_layers
    for ours, theirs in zip(fast, slow, strict=True):
        torch.testing.assert_close(ours[0, :, 0], theirs, atol=1e-3, rtol=0)


@pytest.mark.parametrize("changes", [{"time": "none"}, {"time": "additive"}, {"scales": 1}])
def test_there_is_no_long_way_of_an_ablation(changes: dict[str, Any]) -> None:
    config = replace(BUILDS["tamvt-mobile-backbone-masks"], **changes)
    with pytest.raises(TypeError, match="an ablation"):
        ReferenceTamVT(build(config))


def test_an_entry_holds_tokens_before_their_projection(published_model: TamVT) -> None:
    with torch.inference_mode():
        entry = ReferenceTamVT(published_model).memorize(
            torch.randn(1, 3, *SIZE), torch.rand(*SIZE)
        )
    assert shapes(entry) == [(1, 6, 256), (1, 24, 256), (1, 6, 256), (1, 24, 256)]


def shapes(entry: ReferenceEntry) -> list[tuple[int, ...]]:
    tensors: tuple[Tensor, ...] = entry
    return [tuple(tensor.shape) for tensor in tensors]


def test_the_paper_s_way_with_masks_is_required(mobile_model: TamVT) -> None:
    with pytest.raises(TypeError, match="tamvt-mobile"):
        ReferenceTamVT(mobile_model)
