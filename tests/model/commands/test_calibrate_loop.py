"""The command `tamvt-model calibrate loop`: what it tries, chooses and writes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.__main__ import main
from model.commands.calibrate_loop import (
    LoopArguments,
    LoopSetting,
    choose_setting,
    list_settings,
    score_settings,
)
from model.commands.comparison import read_candidate
from model.core.loop_bias import NO_BIAS, LoopBias
from model.data.yardstick import HardClip
from model.networks.registry import NETWORKS, Blueprint, build_network
from model.networks.weights import WeightsError, read_loop
from model.training.errors import SettingsError
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork
from tests.support import scene

AS_IT_IS = LoopSetting(NO_BIAS, 3)
BIASED = LoopSetting(LoopBias(0.5, 0.5), 3)


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of a small network, which is registered as `recurrent`."""
    build = Blueprint(RECURRENT, lambda config: RecurrentNetwork(config, stateful=False))
    monkeypatch.setitem(NETWORKS, "recurrent", build)
    state: dict[str, Any] = {"build": "recurrent", "step": 1}
    state["model"] = state["raw"] = build_network("recurrent").state_dict()
    torch.save(state, tmp_path / "last.pt")
    return tmp_path / "last.pt"


def test_every_setting_is_tried_once_and_the_loop_as_it_is_first() -> None:
    found = list_settings(LoopArguments(memory_sizes=(3, 5)), AS_IT_IS)
    assert found[0] == AS_IT_IS
    assert len(found) == len(set(found)) == 8
    assert LoopSetting(LoopBias(answer=0.5, memory=0.0), 5) in found


def test_biases_can_be_kept_equal() -> None:
    found = list_settings(LoopArguments(memory_sizes=(3,), together=True), AS_IT_IS)
    assert found == [AS_IT_IS, BIASED]


def test_a_memory_that_no_loop_has_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"1\.\.16"):
        list_settings(LoopArguments(memory_sizes=(3, 17)), AS_IT_IS)


def test_a_gain_in_every_clip_is_chosen() -> None:
    scores = {AS_IT_IS: [0.5, 0.6, 0.7, 0.8], BIASED: [0.55, 0.66, 0.75, 0.82]}
    assert choose_setting(scores, AS_IT_IS) == BIASED


def test_a_gain_that_may_be_chance_is_not_chosen() -> None:
    scores = {AS_IT_IS: [0.5, 0.6, 0.7, 0.8], BIASED: [0.9, 0.55, 0.66, 0.78]}
    assert choose_setting(scores, AS_IT_IS) == AS_IT_IS


def test_each_setting_runs_with_its_own_bias_and_memory(checkpoint: Path) -> None:
    labels = np.stack([scene.labels(number) for number in range(6)])
    clip = HardClip("walk", tuple(scene.png(number) for number in range(6)), labels)
    settings = [AS_IT_IS, BIASED, LoopSetting(LoopBias(4, 4), 3)]
    network = build_network("recurrent")
    scores = score_settings(network, {"walk": [clip]}, settings)
    assert len({found for (found,) in scores.values()}) == len(settings)
    assert network.config.loop_bias == NO_BIAS


def test_the_command_writes_what_it_chose_and_leaves_the_rest(
    checkpoint: Path, drawn_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = torch.load(checkpoint, weights_only=True)
    words = ["--sets", "twins", "--clips", "1", "--memory-sizes", "2", "--memory-biases", "0,4"]
    words += ["--answer-biases", "4", "--threads", "1", "--data", str(drawn_data)]
    assert main(["calibrate", "loop", str(checkpoint), *words]) == 0
    told = capsys.readouterr().out
    after = torch.load(checkpoint, weights_only=True)
    loop = after.pop("loop")
    assert after.keys() == before.keys()
    assert all(torch.equal(after["model"][key], before["model"][key]) for key in before["model"])
    assert "| memory +4, answer +4, N = 2 |" in told
    changes = read_loop({"loop": loop})
    chosen = LoopSetting(changes["loop_bias"], changes["memory_size"])
    assert told.splitlines()[-1] == f"{checkpoint}: {chosen}"
    assert build_network("recurrent", **changes).config == replace(RECURRENT, **changes)


def test_a_checkpoint_is_run_as_its_loop_was_calibrated(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    torch.save({**state, "loop": {"answer": 0.5, "memory": 0.25, "memory_size": 2}}, checkpoint)
    spec = read_candidate("last", checkpoint, raw=False).runtime.spec
    assert spec.loop_bias == LoopBias(answer=0.5, memory=0.25)
    assert spec.memory_size == 2


def test_a_checkpoint_without_a_loop_changes_nothing() -> None:
    assert read_loop({"model": {}}) == {}
    assert read_loop([1, 2]) == {}


@pytest.mark.parametrize("loop", [{"answer": 0.5}, {"answer": 9, "memory": 0, "memory_size": 3}, 7])
def test_a_damaged_loop_is_told(loop: object) -> None:
    with pytest.raises(WeightsError, match="loop cannot be read"):
        read_loop({"loop": loop})


def test_a_file_that_is_no_checkpoint_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "loop", str(tmp_path / "none.pt")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tamvt-model calibrate: there is no checkpoint")
