"""The command `tamvt-model export`: whose weights it takes, and what it says of others."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.__main__ import main
from model.networks.base import TrackingNetwork
from model.networks.registry import build_network
from model.networks.weights import load_weights


class Options:
    """As the authors' checkpoints hold one: an object that is no tensor."""

    def __init__(self) -> None:
        self.rate = {"backbone": 1e-5}


def test_the_authors_checkpoint_is_loaded_with_its_averages(
    published_checkpoint: dict[str, Tensor], published_model: TrackingNetwork, tmp_path: Path
) -> None:
    theirs = {
        "model": {key: torch.zeros_like(value) for key, value in published_checkpoint.items()},
        "model_ema": published_checkpoint,
        "args": Options(),
        "epoch": 3,
    }
    torch.save(theirs, tmp_path / "theirs.pth")
    network = build_network("tamvt-r50")
    load_weights(network, tmp_path / "theirs.pth")
    expected = published_model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in network.state_dict().items())


def test_a_checkpoint_runs_no_program(tmp_path: Path) -> None:
    class Program:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "was-run",)

    torch.save({"model": {}, "args": Program()}, tmp_path / "theirs.pth", pickle_module=pickle)
    load_refused("tamvt-mobile", tmp_path / "theirs.pth")
    assert not (tmp_path / "was-run").exists()


def load_refused(build: str, path: Path) -> None:
    with pytest.raises(ValueError, match=path.name):
        load_weights(build_network(build), path)


@pytest.mark.parametrize("verb", ["export", "visualize"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "there is no checkpoint"),
        ("truncated", "no whole checkpoint"),
        ("foreign", "unknown key 'encoder.weight' in the checkpoint"),
        ("other", "does not fit tamvt-mobile"),
        ("list", "holds no weights"),
        ("text", "no whole checkpoint"),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    verb: str, kind: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pt"
    contents: dict[str, object] = {
        "foreign": {"encoder.weight": torch.zeros(2)},
        "other": {"model": {"project_s32.bias": torch.zeros(128)}},
        "list": [1, 2, 3],
        "truncated": {"model": {"project_s32.bias": torch.zeros(128)}},
    }
    if kind in contents:
        torch.save(contents[kind], path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    if kind == "text":
        path.write_text("no weights")
    words = {"export": ["export", "tamvt-mobile"], "visualize": ["visualize", "time"]}[verb]
    assert main([*words, "--weights", str(path), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"tamvt-model {verb}: ")
    assert reason in told
    assert str(path) in told
    assert len(told.splitlines()) == 1
