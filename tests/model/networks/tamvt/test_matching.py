"""Matching against attention written out token by token.

B sessions, L frames of a clip, N entries, O objects, T tokens, C channels, P heads.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from model.networks.tamvt.matching import Matching, Recency

CHANNELS, HEADS = 16, 4
B, L, N, T, OBJECTS = 2, 2, 3, 5, 2


@dataclass(frozen=True)
class Scene:
    """What matching is given."""

    tokens: Tensor  # (B, L, T, C)
    keys: Tensor  # (B, N, T, C)
    values: Tensor  # (B, N, O, T, C)
    factor: Tensor  # (B, N)
    bias: Tensor | None = None  # (B, N)


@pytest.fixture
def matching() -> Matching:
    module = Matching(CHANNELS, HEADS, dropout=0.1).eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


@pytest.fixture
def scene() -> Scene:
    return Scene(
        torch.randn(B, L, T, CHANNELS),
        torch.randn(B, N, T, CHANNELS),
        torch.randn(B, N, OBJECTS, T, CHANNELS),
        torch.rand(B, N) + 0.5,
    )


def written_out(matching: Matching, scene: Scene, known: Tensor) -> Tensor:
    """The same for each frame and object on its own, with all logits in memory (eq. 1 and 2).

    known (B, O, N): the entries whose tokens an object may read. (B, L, O, T, C)
    """
    query = matching.query(matching.norm(scene.tokens))
    out = torch.zeros(B, L, known.shape[1], T, CHANNELS)
    for b in range(B):
        for o, entries in enumerate(known[b]):
            key = scene.keys[b, entries]  # (n, T, C)
            value = scene.values[b, entries, o].flatten(0, 1)
            factor = scene.factor[b, entries].repeat_interleave(T)
            bias = torch.zeros(()) if scene.bias is None else scene.bias[b, entries]
            added = bias.repeat_interleave(T) if bias.ndim else bias
            for frame in range(L):
                read = []
                for head in torch.arange(CHANNELS).chunk(HEADS):
                    logits = query[b, frame][:, head] @ key.flatten(0, 1)[:, head].T
                    weights = (logits / CHANNELS**0.5 * factor + added).softmax(dim=-1)
                    read.append(weights @ value[:, head])
                y = matching.output_norm(torch.cat(read, dim=-1))
                out[b, frame, o] = y + functional.gelu(matching.output(y))
    return out


def matched(matching: Matching, scene: Scene, recency: Recency) -> Tensor:
    return matching(scene.tokens, scene.keys, scene.values, recency)


def test_fused_attention_is_attention(matching: Matching, scene: Scene) -> None:
    everything = torch.ones(B, OBJECTS, N, dtype=torch.bool)
    read = matched(matching, scene, Recency(scene.factor, None, None))
    torch.testing.assert_close(read, written_out(matching, scene, everything))


def test_nothing_changes_where_all_entries_know_all_objects(
    matching: Matching, scene: Scene
) -> None:
    full = Recency(scene.factor, torch.ones(B, N, dtype=torch.bool), torch.ones(B, OBJECTS, N) > 0)
    plain = matched(matching, scene, Recency(scene.factor, None, None))
    torch.testing.assert_close(matched(matching, scene, full), plain)


def test_an_added_object_reads_the_entries_that_know_it(matching: Matching, scene: Scene) -> None:
    known = torch.tensor([[[1, 1, 1], [0, 1, 1]], [[1, 1, 1], [0, 0, 1]]], dtype=torch.bool)
    read = matched(matching, scene, Recency(scene.factor, None, known))
    torch.testing.assert_close(read, written_out(matching, scene, known))


def test_an_entry_that_does_not_know_an_object_may_hold_anything(
    matching: Matching, scene: Scene
) -> None:
    known = torch.tensor([[[1, 1, 1], [0, 1, 1]]] * B, dtype=torch.bool)
    recency = Recency(scene.factor, None, known)
    read = matched(matching, scene, recency)
    scene.values[:, 0, 1] = 1e3
    torch.testing.assert_close(matched(matching, scene, recency), read)


def test_empty_slots_are_not_read(matching: Matching, scene: Scene) -> None:
    present = torch.tensor([[1, 0, 1], [1, 1, 0]], dtype=torch.bool)
    factor = torch.where(present, scene.factor, 0.0)
    known = present[:, None].expand(-1, OBJECTS, -1)
    expected = written_out(matching, scene, known)
    read = matched(matching, scene, Recency(factor, present, None))
    torch.testing.assert_close(read, expected)
    read = matched(matching, scene, Recency(factor, present, known))
    torch.testing.assert_close(read, expected)


@pytest.mark.parametrize("present", [None, torch.tensor([[1, 0, 1], [1, 1, 0]]) > 0])
def test_what_is_added_to_an_entry_s_logits_is_added_after_their_scale(
    matching: Matching, scene: Scene, present: Tensor | None
) -> None:
    additive = replace(scene, factor=torch.ones(B, N), bias=torch.randn(B, N))
    known = torch.ones(B, OBJECTS, N) > 0 if present is None else present[:, None].expand(-1, 2, -1)
    expected = written_out(matching, additive, known)
    read = matched(matching, scene, Recency(additive.factor, present, None, additive.bias))
    torch.testing.assert_close(read, expected)
    read = matched(matching, scene, Recency(additive.factor, present, known, additive.bias))
    torch.testing.assert_close(read, expected)


def test_each_object_reads_as_if_it_were_alone(matching: Matching, scene: Scene) -> None:
    recency = Recency(scene.factor, None, None)
    together = matched(matching, scene, recency)
    for index in range(OBJECTS):
        only = matching(scene.tokens, scene.keys, scene.values[:, :, [index]], recency)
        torch.testing.assert_close(together[:, :, [index]], only)


def test_frames_of_a_clip_do_not_see_each_other(matching: Matching, scene: Scene) -> None:
    recency = Recency(scene.factor, None, None)
    together = matched(matching, scene, recency)
    first = matching(scene.tokens[:, :1], scene.keys, scene.values, recency)
    torch.testing.assert_close(together[:, :1], first)


def test_a_padding_object_reads_zero(matching: Matching, scene: Scene) -> None:
    known = torch.tensor([[[1, 1, 1], [0, 0, 0]]] * B, dtype=torch.bool)
    present = torch.ones(B, N, dtype=torch.bool)
    read = matched(matching, scene, Recency(scene.factor, present, known))
    nothing = matching.output_norm(torch.zeros(CHANNELS))
    nothing = nothing + functional.gelu(matching.output(nothing))
    torch.testing.assert_close(read[:, :, 1], nothing.expand(B, L, T, -1))


def test_an_object_may_be_padding_beside_one_that_was_added(
    matching: Matching, scene: Scene
) -> None:
    known = torch.tensor([[[0, 1, 1], [0, 0, 0]]] * B, dtype=torch.bool)
    present = torch.tensor([[1, 1, 1], [1, 1, 0]], dtype=torch.bool)
    known &= present[:, None]
    factor = torch.where(present, scene.factor, 0.0)
    read = matched(matching, scene, Recency(factor, present, known))
    assert read.isfinite().all()
    expected = written_out(matching, scene, known)
    torch.testing.assert_close(read[:, :, 0], expected[:, :, 0])
