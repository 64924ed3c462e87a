"""Checkpoints are whole or refused, and one process has a folder."""

from pathlib import Path

import pytest
import torch

from model.training import checkpoints
from model.training.checkpoints import compare, locked, refuse_to_overwrite
from model.training.errors import CheckpointError

CPU = torch.device("cpu")
STATE = {"build": "toy", "step": 3, "model": {}, "raw": {}, "optimiser": {}}


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    checkpoints.write(STATE, tmp_path / "last.pt")
    assert checkpoints.read(tmp_path / "last.pt", CPU) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoints.write(STATE, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"last\.pt is no whole checkpoint"):
        checkpoints.read(path, CPU)


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*gone\.pt"):
        checkpoints.read(tmp_path / "gone.pt", CPU)


def test_bare_weights_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save({"model": {}, "build": "toy", "step": 1}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="no raw, optimiser"):
        checkpoints.read(tmp_path / "w.pt", CPU)


def test_changed_settings_are_named() -> None:
    with pytest.raises(CheckpointError, match=r"rate was 0\.1, is 0\.2"):
        compare({"rate": 0.1, "seed": 1}, {"rate": 0.2, "seed": 1}, Path("last.pt"))


def test_a_checkpoint_without_settings_is_taken() -> None:
    compare(None, {"rate": 0.2}, Path("last.pt"))


def test_a_folder_is_for_one_process(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(CheckpointError, match="is writing into"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        assert (tmp_path / "lock").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(CheckpointError, match=r"cannot write into .*file"),
        locked(tmp_path / "file"),
    ):
        pass


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoints.write(STATE, tmp_path / "last.pt")
    (tmp_path / "last.partial").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"cannot write .*last\.pt, what was there is kept"):
        checkpoints.write({**STATE, "step": 4}, tmp_path / "last.pt")
    assert checkpoints.read(tmp_path / "last.pt", CPU) == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_training_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    with pytest.raises(CheckpointError, match=r"holds a training \(last\.pt\)"):
        refuse_to_overwrite(tmp_path)
