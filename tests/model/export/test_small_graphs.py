"""The small graphs that tests of the service run are what the networks say today.

Where one is not, write them again: `python -m tests.support.small_models`.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from model.evaluation.runtime import GraphRuntime
from model.export.graph_export import describe, digest_weights
from model.export.parity import check_parity, read_photograph
from model.export.serving import prepare_serving
from model.export.torch_runtime import TorchRuntime
from tests.support.small_models import SMALL_GRAPHS, SYSTEMS, build_small


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_small_graph_is_what_its_network_says(name: str) -> None:
    served = prepare_serving(build_small(name))
    spec = describe(served, digest_weights(served.state_dict(), served.config.loop_bias))
    graphs = GraphRuntime(SMALL_GRAPHS, name, threads=1)
    assert replace(graphs.spec, weights_file_sha256=spec.weights_file_sha256) == spec
    parity = check_parity(graphs, TorchRuntime(served, spec), [read_photograph()], clips=3)
    assert parity.holds, str(parity)
