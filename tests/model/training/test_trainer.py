"""A few real steps of a small training: it goes on exactly and stops safely."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.data.samples import make_batch, yield_batches
from model.networks.registry import build_network
from model.training import checkpoints
from model.training.distributed import Distributed
from model.training.errors import BadLoss, CheckpointError, SettingsError
from model.training.losses import LossConfig
from model.training.recipes import RECIPES, TrainConfig, smoke
from model.training.trainer import Trainer
from model.training.unroll import SampleLoss

CPU = torch.device("cpu")


@pytest.fixture
def config(drawn_data: Path) -> TrainConfig:
    """Two clips of three frames of 32 pixels a step, in fp32."""
    base = smoke(drawn_data)
    clips = replace(base.samples, crop=32, frames=3, batch=2)
    return replace(base, samples=clips, steps=4, half=False, device="cpu", pictures_every=2)


def trained(config: TrainConfig, folder: Path, *, steps: int | None = None) -> Trainer:
    """A trainer after so many steps (None: all, and saved)."""
    folder.mkdir(exist_ok=True)
    trainer = Trainer(config, folder)
    if steps is None:
        trainer.run(workers=0)
        return trainer
    batches = yield_batches(config.samples, 0, 0, parts=range(config.accumulate))
    for _ in range(steps):
        trainer.advance(batches)
    return trainer


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of any weight."""
    return max((ours[name] - theirs[name]).abs().max().item() for name in ours)


def test_a_training_goes_on_as_if_it_had_not_stopped(config: TrainConfig, tmp_path: Path) -> None:
    whole = trained(config, tmp_path / "whole")
    stopped = trained(config, tmp_path / "stopped", steps=2)
    stopped.save()
    gone_on = Trainer(config, tmp_path / "stopped")
    gone_on.resume(tmp_path / "stopped" / "last.pt")
    gone_on.run(workers=0)
    assert gone_on.step == whole.step == 4
    assert apart(gone_on.model.state_dict(), whole.model.state_dict()) == 0
    assert apart(gone_on.averaged, whole.averaged) == 0
    rows = [(tmp_path / name / "log.csv").read_text().split()[-1] for name in ("whole", "stopped")]
    assert rows[0].split(",")[:2] == rows[1].split(",")[:2]


def test_passes_add_up_to_one_step(config: TrainConfig, tmp_path: Path) -> None:
    halves = replace(config, samples=replace(config.samples, batch=1), accumulate=2)
    together = trained(config, tmp_path / "a", steps=2)
    apart_by = trained(halves, tmp_path / "b", steps=2)
    assert apart(together.model.state_dict(), apart_by.model.state_dict()) < 2e-4
    assert config.settings(processes=1) == halves.settings(processes=1)
    assert config.settings(processes=1) == replace(halves, accumulate=1).settings(processes=2)


def test_a_step_is_the_same_for_any_number_of_processes(
    config: TrainConfig, tmp_path: Path
) -> None:
    meant_for_five = replace(config, accumulate=2, world_size=5)
    assert {meant_for_five.settings(processes=n)["clips.clips_a_step"] for n in (1, 3, 5)} == {20}
    assert Trainer(meant_for_five, tmp_path).parts == range(10)
    with pytest.raises(SettingsError, match="1 batches cannot be shared among 2 processes"):
        Trainer(replace(config, world_size=1), tmp_path, Distributed(rank=0, count=2))


def one_short_sample(config: TrainConfig) -> TrainConfig:
    """A step on one clip of one frame."""
    return replace(config, samples=replace(config.samples, batch=1, frames=2))


def test_averaged_weights_follow_the_present_ones(config: TrainConfig, tmp_path: Path) -> None:
    config = one_short_sample(config)
    trainer = trained(config, tmp_path, steps=0)
    before = {name: value.clone() for name, value in trainer.averaged.items()}
    trainer.step = 2  # three twelfths of the average stay
    trainer.advance(yield_batches(config.samples, 0, 0, parts=range(config.accumulate)))
    present = trainer.model.state_dict()
    expected = {name: before[name] / 4 + 3 * present[name] / 4 for name in before}
    assert apart(trainer.averaged, expected) < 1e-6
    assert apart(trainer.averaged, before) > 1e-5


def test_every_rate_follows_the_schedule(config: TrainConfig, tmp_path: Path) -> None:
    """The first of two steps of warm-up, and the last of a cool-down over half of four."""
    config = replace(one_short_sample(config), warm_up=2, decay_share=0.5, drops=())
    trainer = trained(config, tmp_path, steps=0)
    batches = yield_batches(config.samples, 0, 0, parts=range(config.accumulate))
    for step, factor in ((0, 0.5), (3, 0.5)):
        trainer.step = step
        trainer.advance(batches)
        rates = [group["lr"] for group in trainer.optimizer.param_groups]
        assert rates == pytest.approx([factor * config.backbone_rate, factor * config.rate])


def test_a_loss_that_is_no_number_stops_it_with_the_last_good_state(
    config: TrainConfig, tmp_path: Path
) -> None:
    trainer = trained(config, tmp_path, steps=1)
    good = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    norm = trainer.model.get_submodule("mask_decoder.norm")
    norm.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    sources = make_batch(config.samples, 1).sources
    with pytest.raises(BadLoss, match=f"loss is nan, .* at step 1 .*{sources[0]}"):
        trainer.run(workers=0)
    saved = checkpoints.read(tmp_path / "last.pt", CPU)
    assert saved["step"] == 1
    assert apart(saved["raw"], good) == 0


def test_a_run_leaves_a_table_pictures_and_logs(config: TrainConfig, tmp_path: Path) -> None:
    trained(config, tmp_path)
    rows = (tmp_path / "log.csv").read_text().split()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3", "4"]
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert pictures == ["step000002.png", "step000004.png"]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def test_every_checkpoint_can_be_gone_on_from(config: TrainConfig, tmp_path: Path) -> None:
    trained(replace(config, steps=2, keep_every=1), tmp_path)
    again = Trainer(config, tmp_path)
    again.resume(tmp_path / "step000001.pt")
    assert again.step == 1


def test_a_checkpoint_of_another_build_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    state = {"build": "tamvt-r50", "step": 1, "model": {}, "raw": {}, "optimiser": {}}
    checkpoints.write(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="of tamvt-r50, not of tamvt-mobile"):
        Trainer(config, tmp_path).resume(tmp_path / "last.pt")


def test_a_checkpoint_of_another_shape_is_refused(config: TrainConfig, tmp_path: Path) -> None:
    trainer = trained(config, tmp_path, steps=0)
    trainer.save()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    state["raw"]["time.table"] = torch.ones(3)
    checkpoints.write(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"holds another model: .*time\.table"):
        trainer.resume(tmp_path / "last.pt")


def test_averaged_weights_of_another_shape_are_refused(config: TrainConfig, tmp_path: Path) -> None:
    trainer = trained(config, tmp_path, steps=0)
    trainer.save()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    del state["model"]["time.table"]
    checkpoints.write(state, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"holds another model: .*time\.table"):
        trainer.resume(tmp_path / "last.pt")


def test_other_settings_are_refused_unless_accepted(config: TrainConfig, tmp_path: Path) -> None:
    trained(config, tmp_path, steps=0).save()
    other = Trainer(replace(config, rate=1e-5), tmp_path)
    with pytest.raises(CheckpointError, match=r"rate was 0\.0005, is 1e-05"):
        other.resume(tmp_path / "last.pt")
    other.resume(tmp_path / "last.pt", accept_changes=True)


def test_a_stage_starts_from_another_without_its_time(config: TrainConfig, tmp_path: Path) -> None:
    first = trained(config, tmp_path, steps=0)
    first.averaged["time.table"].fill_(0.5)
    first.averaged["project_s32.bias"].fill_(0.25)
    first.save()
    later = replace(config, weights=tmp_path / "last.pt", fresh_time=True)
    second = Trainer(later, tmp_path).model
    assert (second.state_dict()["time.table"] == 1).all()
    assert (second.state_dict()["project_s32.bias"] == 0.25).all()


def test_frozen_parameters_stay(config: TrainConfig, tmp_path: Path) -> None:
    trainer = trained(replace(config, frozen=("time.",)), tmp_path, steps=2)
    assert (trainer.model.state_dict()["time.table"] == 1).all()


def gradients(config: TrainConfig, **options: Any) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of one batch."""
    torch.manual_seed(0)
    model = build_network("tamvt-mobile").train()
    batch = make_batch(config.samples, 0)
    loss, _ = SampleLoss(model, LossConfig("published", "area"), **options)(
        torch.from_numpy(batch.frames), torch.from_numpy(batch.masks), 1.0, False
    )
    loss.backward()
    named = model.named_parameters()
    return loss.item(), {name: p.grad for name, p in named if p.grad is not None}


def test_recomputing_changes_nothing(config: TrainConfig) -> None:
    """Over three clips, so that the memory has grown when the first is computed again."""
    config = replace(config, samples=replace(config.samples, frames=6))
    kept, again = gradients(config), gradients(config, recompute=True)
    assert again[0] == pytest.approx(kept[0], rel=1e-5)
    assert kept[1].keys() == again[1].keys()
    norm = np.sqrt(sum(float(each.square().sum()) for each in kept[1].values()))
    assert apart(kept[1], again[1]) < 1e-3 * norm


def test_every_trained_parameter_gets_a_gradient(config: TrainConfig) -> None:
    model = build_network("tamvt-mobile")
    wanted = {name for name, p in model.named_parameters() if p.requires_grad}
    assert gradients(config)[1].keys() == wanted


@pytest.mark.parametrize(
    "name", ["tamvt-mobile-equal", "stm-mobile", "qmvos-mobile", "stma-mobile"]
)
def test_the_family_takes_its_first_steps(name: str, drawn_data: Path, tmp_path: Path) -> None:
    """Small samples of two objects; nothing that is to learn is left out."""
    base = RECIPES[name](drawn_data)
    samples = replace(
        base.samples, crop=32, frames=4, batch=1, objects=(0.0, 1.0), static_sets=("coco",)
    )
    config = replace(base, samples=samples, backbone_weights=None, steps=2, half=False)
    trainer = trained(replace(config, device="cpu"), tmp_path)
    assert trainer.step == 2
    learns = {key: each for key, each in trainer.model.named_parameters() if each.requires_grad}
    assert [key for key, each in learns.items() if each.grad is None] == []
