"""A few real steps of a small training from prompts to masks."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.__main__ import main
from model.core.prompt_contract import BOX_END, BOX_START, ON_BACKGROUND, ON_OBJECT, PADDING
from model.data.prompt_samples import PromptViews, split_stills
from model.networks.backbones import MobileNetV2
from model.training import checkpoints
from model.training.errors import CheckpointError
from model.training.prompt_rounds import MOST_POINTS, PromptRounds
from model.training.prompt_trainer import PromptTrainConfig, PromptTrainer, prompt_loss
from model.training.training_log import TrainingLog

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def config(drawn_data: Path) -> PromptTrainConfig:
    """Two views of 64 pixels a step, in fp32."""
    config = PromptTrainConfig(
        data=drawn_data, sets=("ecssd", "coco"), batch=2, side=64, steps=3, half=False
    )
    torch.manual_seed(0)
    config.backbone_weights.parent.mkdir(exist_ok=True)
    torch.save(MobileNetV2().state_dict(), config.backbone_weights)
    return config


@pytest.fixture
def rounds(config: PromptTrainConfig) -> PromptRounds:
    views = PromptViews(split_stills(config.data, config.sets).training, side=64)
    return PromptRounds(views, np.random.default_rng(0), batch=24)


def test_views_begin_with_a_click_a_box_or_a_rough_mask(rounds: PromptRounds) -> None:
    batch = rounds.make_batch()
    assert batch.points.shape == (24, MOST_POINTS, 2)
    kinds = {tuple(label for label in row if label != PADDING) for row in batch.labels.tolist()}
    assert {(ON_OBJECT,), (BOX_START, BOX_END), (ON_OBJECT,) * 2} <= kinds
    rough = batch.previous.any(axis=(1, 2))
    assert 0 < rough.sum() < 12
    for row in range(24):
        for (x, y), label in zip(batch.points[row], batch.labels[row], strict=True):
            if label == ON_OBJECT:
                assert batch.target[row, int(y), int(x)] == 1


def test_the_next_click_is_where_the_mask_is_wrong(rounds: PromptRounds) -> None:
    stay = [row for row, view in enumerate(rounds.shown) if view.rounds > 1]
    everything = np.full((24, 64, 64), 255, np.uint8)
    before = [rounds.shown[row] for row in stay]
    rounds.advance(everything)
    batch = rounds.make_batch()
    assert len(stay) > 10
    for row, view in zip(stay, before, strict=True):
        assert rounds.shown[row] is view
        x, y, label = view.clicks[-1]
        assert label == ON_BACKGROUND
        assert batch.target[row, int(y), int(x)] == 0
        assert batch.previous[row].min() == batch.previous[row].max()
    told = batch.previous[stay].min(axis=(1, 2))
    assert 0 < told.mean() / 255 < 1  # now and then the mask so far is not told


def test_a_view_that_is_right_gives_way_to_another(rounds: PromptRounds) -> None:
    before = list(rounds.shown)
    rounds.advance(rounds.make_batch().target * np.uint8(255))
    assert not any(one is other for one, other in zip(before, rounds.shown, strict=True))


def test_the_score_learns_the_overlap() -> None:
    target = torch.zeros(2, 8, 8)
    target[:, :4] = 1
    logits = torch.where(target > 0, 9.0, -9.0)
    logits[1, 2:4] = -9.0
    right, iou = prompt_loss(logits, torch.tensor([9.0, 0.0]), target)
    assert iou.tolist() == [1.0, 0.5]
    overrated, _ = prompt_loss(logits, torch.tensor([9.0, 9.0]), target)
    assert overrated > right
    assert prompt_loss(-logits, torch.tensor([-9.0, -9.0]), target)[0] > 2 * right


def test_a_training_goes_on_from_its_checkpoint(config: PromptTrainConfig, tmp_path: Path) -> None:
    first = PromptTrainer(replace(config, steps=2), tmp_path)
    begun = {name: value.clone() for name, value in first.network.state_dict().items()}
    first.run()
    assert first.step == 2
    after = first.network.state_dict()
    changed = {name for name in begun if not torch.equal(begun[name], after[name])}
    assert "mask.weight" in changed
    assert not any(name.startswith("backbone.features.0.") for name in changed)
    again = PromptTrainer(config, tmp_path)
    again.resume(tmp_path / "last.pt")
    assert again.step == 2
    assert all(torch.equal(again.averaged[name], first.averaged[name]) for name in begun)
    own = again.network.state_dict()
    assert all(torch.equal(own[name], after[name]) for name in begun)
    moments = [trainer.optimizer.state_dict()["state"].keys() for trainer in (again, first)]
    assert moments[0] == moments[1] != set()
    again.run()
    assert checkpoints.read(tmp_path / "last.pt", CPU)["step"] == 3
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4


def test_a_signal_ends_it_with_a_checkpoint(config: PromptTrainConfig, tmp_path: Path) -> None:
    class Told(PromptTrainer):
        def advance(self, rounds: PromptRounds, log: TrainingLog) -> None:
            super().advance(rounds, log)
            os.kill(os.getpid(), signal.SIGTERM)

    handler = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody took the signal"))
    before = signal.getsignal(signal.SIGTERM)
    try:
        Told(replace(config, steps=5), tmp_path).run()
        assert signal.getsignal(signal.SIGTERM) is before
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert checkpoints.read(tmp_path / "last.pt", CPU)["step"] == 1


def test_other_settings_and_other_builds_are_refused(
    config: PromptTrainConfig, tmp_path: Path
) -> None:
    trainer = PromptTrainer(config, tmp_path)
    trainer.save()
    with pytest.raises(CheckpointError, match="batch was 2, is 3"):
        PromptTrainer(replace(config, batch=3), tmp_path).resume(tmp_path / "last.pt")
    state = checkpoints.read(tmp_path / "last.pt", CPU)
    for part, value in (("model", {"mask.weight": torch.zeros(3)}), ("optimiser", {})):
        checkpoints.write({**state, part: value}, tmp_path / "last.pt")
        with pytest.raises(CheckpointError, match=r"last\.pt"):
            trainer.resume(tmp_path / "last.pt")
    checkpoints.write({**state, "build": "tamvt-mobile"}, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match="a checkpoint of tamvt-mobile"):
        trainer.resume(tmp_path / "last.pt")


def test_the_command_trains_and_exports(
    config: PromptTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, graphs = tmp_path / "runs", tmp_path / "graphs"
    words = [
        "--data",
        str(config.data),
        "--sets",
        "ecssd,coco",
        "--batch",
        "1",
        "--side",
        "64",
        "--steps",
        "1",
    ]
    assert main(["train", "prompt", "-o", str(runs), *words]) == 0
    assert "done at step 1 of 1" in capsys.readouterr().out
    weights = str(runs / "last.pt")
    assert main(["export", "prompt", "--weights", weights, "-o", str(graphs)]) == 0
    assert ", equal to PyTorch" in capsys.readouterr().out
    size = (graphs / "tamvt-mobile_prompt.onnx").stat().st_size
    assert size < 950_000  # with the other graphs at most 20 MB
    assert main(["export", "prompt", "--weights", str(tmp_path / "no.pt"), "-o", "x"]) == 2
