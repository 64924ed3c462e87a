"""Long-term memory chooses, keeps and says what the published code does.

O objects, M long-term tokens, h and w the size at stride 4.
"""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.networks.qmvos.long_term import LongTermLimits, LongTermTracker
from model.networks.qmvos.model import Qmvos
from model.networks.registry import build_network
from tests.model.networks.published_rule import Golden, make_checkpoint, read_golden

SMALL = LongTermLimits(working=4, left=2, prototypes=20, tokens=48)


@pytest.fixture(scope="module")
def golden() -> Golden:
    return read_golden("qmvos")


@pytest.fixture(scope="module")
def followed(golden: Golden) -> tuple[LongTermTracker, list[Tensor]]:
    """A tracker after twelve frames, each remembered, and the logits of all but the first."""
    network = build_network("qmvos-r50").eval()
    assert isinstance(network, Qmvos)
    network.load_state_dict(network.rename_published(make_checkpoint("qmvos")))
    images = network.normalize(torch.from_numpy(golden["video"]))
    labels = torch.from_numpy(golden["reference_mask"])
    masks = torch.stack([labels == 1, labels == 2]).float()[None]
    with torch.inference_mode():
        tracker = LongTermTracker(network, images[:1], masks, every=1, limits=SMALL)
        logits = [tracker.segment(image[None])[0] for image in images[1:]]
    return tracker, logits


def largest(ours: Tensor, theirs: NDArray[np.float32]) -> float:
    return float((ours - torch.from_numpy(theirs)).abs().max())


def test_logits_are_the_same(
    followed: tuple[LongTermTracker, list[Tensor]], golden: Golden
) -> None:
    assert largest(torch.stack(followed[1]), golden["long_object_logits"]) < 1e-3


def test_the_same_tokens_are_chosen_and_kept(
    followed: tuple[LongTermTracker, list[Tensor]], golden: Golden
) -> None:
    history = followed[0].memory.history
    chosen = torch.stack([each.prototypes for each in history]).numpy()
    assert np.array_equal(chosen, golden["long_prototypes"])
    kept = [each.survivors.numpy() for each in history if each.survivors is not None]
    expected = [[flag == 1 for flag in flags if flag >= 0] for flags in golden["long_survivors"]]
    assert [stays.tolist() for stays in kept] == expected


def test_prototypes_are_the_same(
    followed: tuple[LongTermTracker, list[Tensor]], golden: Golden
) -> None:
    tokens = followed[0].memory.long_term
    assert tokens is not None
    assert largest(tokens.key.T, golden["long_key"]) < 1e-3
    assert largest(tokens.shrinkage[:, 0], golden["long_shrinkage"]) < 1e-3
    assert largest(tokens.value.transpose(1, 2)[:, ::4], golden["long_value"]) < 1e-3
    assert largest(tokens.usage, golden["long_usage"]) < 1e-3
