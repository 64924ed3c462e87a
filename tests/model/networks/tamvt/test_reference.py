"""The long way and ours say the same, so that timing one against the other is fair."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.networks.base import Bank, NetworkError, take_frames
from model.networks.registry import find_config
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.model import TamVT
from model.networks.tamvt.reference import ReferenceEntry, ReferenceTamVT

SIZE = (64, 96)


def test_the_long_way_gives_the_same_logits(published_model: TamVT) -> None:
    plain, images, masks = (
        ReferenceTamVT(published_model),
        torch.randn(5, 3, *SIZE),
        torch.rand(3, *SIZE),
    )
    with torch.inference_mode():
        features = published_model.encode_frames(images)
        entries, _ = published_model.memorize(take_frames(features, slice(0, 3)), masks[:, None])
        bank = Bank({name: each[None] for name, each in entries.items()}, torch.tensor([[2, 1, 0]]))
        fast, _ = published_model.segment(
            take_frames(features, slice(3, 5)), bank, every_layer=True
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
    config: Any = find_config("tamvt-mobile-backbone-masks")
    with pytest.raises(NetworkError, match="an ablation"):
        ReferenceTamVT(build_tamvt(replace(config, **changes)))


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
    with pytest.raises(NetworkError, match="tamvt-mobile"):
        ReferenceTamVT(mobile_model)
