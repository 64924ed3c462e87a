"""Checkpoints are scored as they are, and side by side."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.__main__ import main
from model.commands.comparison import measure_spread, read_candidate, shorten_names, spread_table
from model.core.j_and_f import SequenceScores
from model.evaluation.pixel_errors import share_errors
from model.evaluation.scoring import ObjectScore
from model.networks.base import TrackingNetwork
from model.training import checkpoints
from model.training.errors import CheckpointError
from tests.model.evaluation.test_scoring import rows, write_scene

FRAME = {
    "frame": np.full((1, 64, 64, 3), 90, np.uint8),
    "masks": np.full((1, 1, 64, 64), 255, np.uint8),
}


def write_checkpoint(
    path: Path, model: TrackingNetwork, *, step: int = 7, build: str = "tamvt-mobile"
) -> Path:
    """A training's checkpoint, whose raw weights are twice the averaged ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    averaged = model.state_dict()
    raw = {name: 2 * value for name, value in averaged.items()}
    state = {"build": build, "step": step, "model": averaged, "raw": raw, "optimiser": {}}
    checkpoints.write(state, path)
    return path


def scored(video: str, j: float, f: float) -> ObjectScore:
    scores = SequenceScores(j_frames=(j, j), f_frames=(f, f))
    return ObjectScore(video, 1, ("1", "2"), scores, 0.1, (), share_errors([(0, 0, 1)]))


def test_checkpoints_are_named_by_what_tells_them_apart() -> None:
    one, other = Path("run/step1.pt"), Path("run/step2.pt")
    assert shorten_names([one, other]) == {"step1": one, "step2": other}
    seeds = [Path("seed1/last.pt"), Path("seed2/last.pt")]
    assert list(shorten_names(seeds)) == ["seed1/last", "seed2/last"]
    with pytest.raises(CheckpointError, match="same name"):
        shorten_names([one, one])


def test_the_spread_is_that_of_a_sample() -> None:
    # Of 70, 74 and 78: mean 74, reach 8, and the root of (16 + 0 + 16) / 2.
    assert measure_spread([0.70, 0.74, 0.78]) == pytest.approx((0.74, 0.08, 0.04))


def test_checkpoints_stand_side_by_side() -> None:
    first = [scored("car", 0.9, 0.7), scored("dog", 0.5, 0.3)]
    second = [scored("car", 0.8, 0.6), scored("dog", 0.7, 0.7)]
    lines = spread_table({"a": first, "b": second}).splitlines()
    assert lines[0] == "| J / F / J&F | a | b | mean | max - min | sd |"
    assert lines[2] == "| car | 90.0 / 70.0 / 80.0 | 80.0 / 60.0 / 70.0 | 75.0 | 10.0 | 7.1 |"
    assert lines[4] == "| **all** | 70.0 / 50.0 / 60.0 | 75.0 / 65.0 / 70.0 | 65.0 | 10.0 | 7.1 |"
    assert lines[6] == "- J of 2 checkpoints: mean 72.5, max - min 5.0, sd 3.54"
    assert spread_table({"a": first}).splitlines()[2] == "| car | 90.0 / 70.0 / 80.0 |"


def test_averaged_weights_are_run_unless_raw_ones_are_asked_for(
    mobile_model: TrackingNetwork, tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path / "last.pt", mobile_model)
    averaged = read_candidate("last", path, raw=False).runtime.memorize(FRAME)
    raw = read_candidate("last", path, raw=True).runtime.memorize(FRAME)
    assert np.abs(averaged["key_s32"] - raw["key_s32"]).max() > 0.1


def test_a_checkpoint_of_weights_alone_can_be_scored(
    mobile_model: TrackingNetwork, tmp_path: Path
) -> None:
    state = {"build": "tamvt-mobile", "step": 3, "model": mobile_model.state_dict()}
    torch.save(state, tmp_path / "step000003.pt")
    assert read_candidate("a", tmp_path / "step000003.pt", raw=False).step == 3
    with pytest.raises(CheckpointError, match="no raw"):
        read_candidate("a", tmp_path / "step000003.pt", raw=True)


def test_a_checkpoint_that_is_not_what_it_says_is_refused(
    mobile_model: TrackingNetwork, tmp_path: Path
) -> None:
    unknown = write_checkpoint(tmp_path / "a.pt", mobile_model, build="tamvt-giant")
    with pytest.raises(CheckpointError, match="is of 'tamvt-giant'; there are tamvt-r50"):
        read_candidate("a", unknown, raw=False)
    other = write_checkpoint(tmp_path / "b.pt", mobile_model, build="tamvt-r50")
    with pytest.raises(CheckpointError, match="holds another model"):
        read_candidate("b", other, raw=False)
    checkpoints.write({"build": "tamvt-mobile", "step": 1, "model": [1, 2]}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="holds another model"):
        read_candidate("c", tmp_path / "c.pt", raw=False)


def test_the_command_compares_checkpoints(
    mobile_model: TrackingNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "vost", length=4)
    paths = [
        write_checkpoint(tmp_path / f"seed{seed}/last.pt", mobile_model, step=seed)
        for seed in (1, 2)
    ]
    where = ["--dataset", "vost", "--root", str(tmp_path / "vost"), "--split", "val"]
    out, words = tmp_path / "out", ["--threads", "1", "--weights", *map(str, paths)]
    assert main(["evaluate", *where, "-o", str(out), *words]) == 0
    told = capsys.readouterr().out
    assert "- J&F of 2 checkpoints: mean" in told
    assert "max - min 0.0, sd 0.00" in told  # they are the same model
    written = (out / "spread.md").read_text()
    assert "averaged weights" in written
    assert "seed1/last (step 1), seed2/last (step 2)" in written
    assert written.splitlines()[2] in told
    one, other = (rows(out / f"seed{seed}/last/objects.csv") for seed in (1, 2))
    assert one == other
    assert len(list((out / "seed1/last/masks/walk").iterdir())) == 4


def test_a_broken_checkpoint_is_told_before_any_is_run(
    mobile_model: TrackingNetwork, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scene(tmp_path / "vost", length=4)
    good = write_checkpoint(tmp_path / "good.pt", mobile_model)
    bad = write_checkpoint(tmp_path / "bad.pt", mobile_model)
    bad.write_bytes(bad.read_bytes()[:-1000])
    where = ["--dataset", "vost", "--root", str(tmp_path / "vost"), "--split", "val"]
    assert main(["evaluate", *where, "--weights", str(good), str(bad)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "bad.pt is no whole checkpoint" in told.err
