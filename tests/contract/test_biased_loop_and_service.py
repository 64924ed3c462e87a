"""A model with a biased loop gives the same masks offline, served, and after a bank is rebuilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from model.core.loop_bias import LoopBias
from model.core.palette import read_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import LIMITS, OfflineTracker
from model.export.graph_export import export
from tests.model.networks.recurrent import RECURRENT, RecurrentNetwork
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, running_service

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
    session = ""
    for first, last in ((1, 5), (5, FRAMES)):
        with (
            running_service(
                state=tmp_path / "state",
                weights=tmp_path / "graphs",
                settings={"TAMVT_MODEL": "recurrent"},
            ) as service,
            httpx.Client(base_url=service.url, timeout=PATIENCE_S) as http,
        ):
            api = Api(http)
            session = session or api.start()
            answer = api.append(session, images[first:last], first=first)
            assert answer.status_code == 200, answer.text
            found = [
                read_label_map(
                    http.get(f"/v1/sessions/{session}/masks/{number}.png").content, LIMITS
                )
                for number in range(first, last)
            ]
        assert all(map(np.array_equal, found, wanted[first - 1 : last - 1]))
    assert all(0 < np.count_nonzero(labels) < labels.size / 2 for labels in wanted)
