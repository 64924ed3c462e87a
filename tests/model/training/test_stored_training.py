"""A training of commit 460bd98 goes on in today's code, from exactly the state that it had.

What is resumed is equal bit for bit. The steps that follow are so up to rounding: since commit
6e1f00b gradients are summed in another order, and two steps later weights differ by 6e-8 at most.

`stored/toy-460bd98.pt` was written by that commit: recipe `smoke`, two steps of a toy build on
`make_noise` below. Its frozen backbone is left out and made again here, by the rule of
`published_value`.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.samples import SampleBatch
from model.networks.registry import NETWORKS, Blueprint
from model.networks.tamvt.build import build_tamvt
from model.networks.tamvt.builds import TAMVT_MOBILE
from model.training.recipes import smoke
from model.training.trainer import Trainer
from tests.model.networks.tamvt.published import published_value

STORED = Path(__file__).parent / "stored" / "toy-460bd98.pt"
LOSSES = (3.3520474433898926, 3.2698750495910645)  # of the next two steps in the code of then
TOY = replace(
    TAMVT_MOBILE,
    name="tamvt-toy",
    hidden=8,
    widths=(8, 8, 8, 8),
    matching_heads=2,
    decoder_heads=2,
    feedforward=8,
    norm_groups=2,
)


@pytest.fixture
def trainer(drawn_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """The same training in the code of today, with weights of its own."""
    monkeypatch.setitem(NETWORKS, "tamvt-toy", Blueprint(TOY, build_tamvt))
    base = smoke(drawn_data)
    return Trainer(
        replace(
            base,
            build="tamvt-toy",
            samples=replace(base.samples, crop=32, frames=3),
            steps=4,
            half=False,
            device="cpu",
            frozen=("backbone.",),
        ),
        tmp_path,
    )


def complete(state: dict[str, Any], names: dict[str, Tensor]) -> dict[str, Any]:
    """The checkpoint with its backbone, in the order of the model's own keys."""
    backbone = {
        key: torch.from_numpy(published_value(key, tuple(value.shape)))
        for key, value in names.items()
        if key.startswith("backbone.")
    }
    return {**state, **{part: {**backbone, **state[part]} for part in ("model", "raw")}}


def make_noise() -> Iterator[SampleBatch]:
    """The batch that the training saw in every step."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((2, 3, 32, 32), np.uint8)
    for index in range(3):
        masks[:, index, 4 + index : 16 + 2 * index, 4 + index : 16 + index] = 1
    return repeat(SampleBatch(frames, masks, ("noise",) * 2))


def test_a_training_of_then_goes_on(trainer: Trainer, tmp_path: Path) -> None:
    stored = torch.load(STORED, weights_only=True)
    state = complete(stored, trainer.model.state_dict())
    torch.save(state, tmp_path / "then.pt")
    trainer.resume(tmp_path / "then.pt")
    assert trainer.step == 2
    for ours, part in ((trainer.model.state_dict(), "raw"), (trainer.averaged, "model")):
        assert list(ours) == list(state[part])
        assert all(torch.equal(value, state[part][key]) for key, value in ours.items())
    trainer.save()
    written = torch.load(tmp_path / "last.pt", weights_only=True)
    assert written["settings"].items() >= stored["settings"].items()
    for number, moments in stored["optimiser"]["state"].items():
        again = written["optimiser"]["state"][number]
        assert all(torch.equal(torch.as_tensor(again[name]), moments[name]) for name in moments)
    batches = make_noise()
    losses = [trainer.advance(batches)[0] for _ in LOSSES]
    assert losses == pytest.approx(LOSSES, rel=1e-4)
