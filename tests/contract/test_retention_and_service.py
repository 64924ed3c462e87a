"""A model that keeps some frames, and whose masks compete in the graph, is served as it is tracked.

Two gateways, one after the other, on the same store: the bank is rebuilt on the way.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.core.memory import Retention
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker
from model.export.graph_export import export
from model.networks.base import aggregate_softly
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork
from tests.support import scene
from tests.support.turns import follow_in_turns

FRAMES = 14
CONFIG = replace(RECURRENT, max_clip_length=1, retention=Retention(every=3, recent=1))


class CompetingNetwork(RecurrentNetwork):
    """Objects share the pixels that more than one of them looks like."""

    aggregated = True

    def soften(self, logits: Tensor, exists: Tensor) -> Tensor:
        return aggregate_softly(logits.sigmoid(), exists)


@pytest.mark.timeout(300)  # an export takes long on a busy machine
def test_the_service_follows_as_the_offline_loop_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CompetingNetwork(CONFIG, stateful=False)
    network.scale.weight.data.abs_().mul_(3)
    network.scale.bias.data.fill_(-0.7)  # so that the background competes as well
    spec = export(network, tmp_path / "graphs")
    assert (spec.contract, spec.capabilities) == (2, ("aggregated",))
    images = [scene.png(number, objects=2) for number in range(FRAMES)]
    tracker = OfflineTracker(
        GraphRuntime(tmp_path / "graphs", "recurrent", threads=1),
        images[0],
        scene.labels(0, objects=2),
    )
    wanted = [frame.labels for frame in tracker.track(images[1:])]
    assert [entry.frame for entry in tracker.memory.entries] == [0, 12, 13]
    found = follow_in_turns(tmp_path, images, model="recurrent", turns=(6,), objects=2)
    assert all(map(np.array_equal, found, wanted))
    assert len(found) == len(wanted)
    assert all({1, 2} <= set(np.unique(labels)) for labels in wanted)
