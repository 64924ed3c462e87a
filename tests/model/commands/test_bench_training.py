"""What a training takes is measured: its time on its own data, its memory on none."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.__main__ import main
from model.commands.bench import KEPT_BLOCKS
from model.commands.bench_training import (
    LiveBytes,
    TrainingArguments,
    count_footprint,
    make_noise,
    report,
    run_step,
    time_steps,
)
from model.training.losses import LossConfig
from model.training.recipes import TrainConfig, smoke
from model.training.trainer import Trainer

SIZE = (64, 96)


@pytest.fixture
def config(drawn_data: Path) -> TrainConfig:
    """One clip of six frames a step, in fp32, with the paper's loss."""
    base = smoke(drawn_data)
    clips = replace(base.samples, batch=1, frames=6, crop=32)
    loss = LossConfig("published", "area")
    return replace(base, samples=clips, loss=loss, half=False, device="cpu", steps=2)


def test_living_tensors_are_counted_once_until_they_are_gone() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first + 1
        view = second[:10]
        assert (live.now, live.peak) == (8000, 8000)
        del first
        assert live.now == 4000
        del second
        assert live.now == 4000  # the view keeps it
        del view
        assert (live.now, live.peak) == (0, 8000)


def test_computing_again_keeps_less(config: TrainConfig) -> None:
    large = (256, 256)  # where activations outweigh the optimizer
    kept, again = (
        count_footprint(replace(config, recompute=each), large) for each in (False, True)
    )
    assert again.kept < 0.5 * kept.kept
    assert again.peak < kept.peak
    assert again.state == kept.state


def test_weights_averages_gradients_and_two_moments_are_held(config: TrainConfig) -> None:
    model = Trainer(config, Path()).model
    trained = sum(each.numel() for each in model.parameters() if each.requires_grad)
    held = sum(each.numel() for each in model.state_dict().values())
    state = count_footprint(config, SIZE).state
    assert state == pytest.approx(4 * (2 * held + 3 * trained), rel=0.01)


def test_the_count_is_that_of_a_real_step(config: TrainConfig, tmp_path: Path) -> None:
    with LiveBytes() as live:
        trainer = Trainer(config, tmp_path)
        batch = next(make_noise(config, SIZE))
        frames, masks = torch.from_numpy(batch.frames), torch.from_numpy(batch.masks)
        before = live.now
        loss, _ = trainer.loss(frames, masks, 1.0, config.half)
        kept = live.now - before
        loss.backward()
        del loss, _
        trainer.optimizer.step()
    counted = count_footprint(config, SIZE)
    assert counted.kept == pytest.approx(kept, rel=0.01)
    assert counted.peak == pytest.approx(live.peak, rel=0.01)


def test_a_real_step_is_made_and_timed(config: TrainConfig) -> None:
    size, seconds = run_step(config, SIZE)
    assert size >= 0  # tests before this one may have needed more
    assert seconds > 0


def test_the_first_step_does_not_count(config: TrainConfig) -> None:
    speed = time_steps(config, workers=0)
    assert speed.steps == 2
    assert 0 < speed.share_waiting < 1


def test_memory_is_told_with_activations_kept_and_computed_again() -> None:
    asked = TrainingArguments(train="smoke", memory=True, count_only=True, data=Path("nowhere"))
    title, table = report(asked, (64, 96))
    assert "2 clips of 4 frames of 64x96, matrix products in bfloat16" in title
    assert "| activations kept (the recipe) |" in table
    assert "| activations computed again |" in table


def test_the_command_times_a_recipe(
    drawn_data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEPT_BLOCKS.items():
        monkeypatch.setenv(name, value)
    words = ["bench", "--train", "smoke", "--steps", "1", "--workers", "0", "--threads", "1"]
    assert main([*words, "--frames", "2", "--data", str(drawn_data)]) == 0
    told = capsys.readouterr().out
    assert "1 steps: " in told
    assert "% of the time waiting for data" in told
    assert "% in the model" in told
    assert main([*words, "--data", "/nowhere"]) == 2
    assert "/nowhere" in capsys.readouterr().err
