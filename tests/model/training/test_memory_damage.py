"""Damaged memories: what is lost, shrunk and spilled, from which clip on, and how often."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.training.memory_damage import MemoryDamage, draw_damage

SIZE = 64


def square() -> Tensor:
    """One sample with one object, a square of 24 pixels in the middle, (1, 1, H, W)."""
    masks = torch.zeros(1, 1, SIZE, SIZE)
    masks[..., 20:44, 20:44] = 1
    return masks


def damage(kind: str, *, first: int = 0) -> MemoryDamage:
    """One object's damage of that kind, to its right."""
    no, yes = torch.zeros(1, 1, dtype=torch.bool), torch.ones(1, 1, dtype=torch.bool)
    none = MemoryDamage(
        first=torch.full((1, 1), first),
        cut=no,
        shrunk=no,
        spilled=no,
        angle=torch.zeros(1, 1),
        offset=torch.zeros(1, 1),
        reach=torch.ones(1, 1),
        shrunk_px=3,
    )
    chosen: dict[str, Any] = {} if kind == "none" else {kind: yes}
    return replace(none, **chosen)


def test_a_cut_takes_the_same_side_away() -> None:
    damaged = damage("cut").apply(square(), 0)
    assert damaged[..., 32, 22] == pytest.approx(1, abs=0.01)
    assert damaged[..., 32, 41] == pytest.approx(0, abs=0.01)
    assert damaged.sum() == pytest.approx(24 * 24 / 2, rel=0.05)


def test_a_shrunk_mask_loses_its_rim() -> None:
    damaged = damage("shrunk").apply(square(), 0)
    assert damaged.sum() == 18 * 18
    assert damaged[..., 23:41, 23:41].all()


def test_something_is_spilled_beside_the_object() -> None:
    damaged = damage("spilled").apply(square(), 0)
    assert (damaged >= square()).all()
    assert damaged[..., 32, 55] > 0.9
    assert damaged[..., 32, 8] < 1e-6


@pytest.mark.parametrize("kind", ["cut", "shrunk", "spilled"])
def test_nothing_is_damaged_before_its_clip(kind: str) -> None:
    late = damage(kind, first=2)
    assert (late.apply(square(), 1) == square()).all()
    assert (late.apply(square(), 2) != square()).any()


@pytest.mark.parametrize("kind", ["none", "cut", "shrunk", "spilled"])
def test_an_empty_mask_stays_empty(kind: str) -> None:
    empty = torch.zeros(1, 1, SIZE, SIZE)
    assert (damage(kind).apply(empty, 0) == 0).all()


def test_as_many_objects_are_damaged_as_asked_for() -> None:
    torch.manual_seed(0)
    drawn = draw_damage((400, 2), share=0.5, clips=4)
    kinds = torch.stack((drawn.cut, drawn.shrunk, drawn.spilled))
    assert kinds.sum(0).max() == 1
    assert kinds.float().mean((1, 2)).tolist() == pytest.approx([0.15, 0.1, 0.25], abs=0.03)
    assert set(drawn.first.unique().tolist()) == {0, 1, 2, 3}
