"""A model with a biased loop gives the same masks offline, served, and after a bank is rebuilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.core.loop_bias import LoopBias
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker
from model.export.graph_export import export
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork
from tests.support import scene
from tests.support.turns import follow_in_turns

FRAMES = 9
BIAS = LoopBias(answer=-1.0, memory=3.0)  # far apart, so that other entries give other masks


@pytest.mark.timeout(300)  # an export takes long on a busy machine
def test_a_service_that_is_started_anew_goes_on_as_the_loop_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RecurrentNetwork(replace(RECURRENT, loop_bias=BIAS), stateful=False)
    network.scale.weight.data.abs_()  # what looks like the object is more likely it
    export(network, tmp_path / "graphs")
    images = [scene.png(number) for number in range(FRAMES)]
    runtime = GraphRuntime(tmp_path / "graphs", "recurrent", threads=1)
    tracker = OfflineTracker(runtime, images[0], scene.labels(0))
    wanted = [frame.labels for frame in tracker.track(images[1:])]
    found = follow_in_turns(tmp_path, images, model="recurrent", turns=(5,))
    assert all(map(np.array_equal, found, wanted))
    assert len(found) == len(wanted)
    assert all(0 < np.count_nonzero(labels) < labels.size / 2 for labels in wanted)
