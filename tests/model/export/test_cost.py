"""What a frame costs: counted on the network, shared out as sessions run it."""

from dataclasses import replace

import pytest

from model.export.cost import count_macs
from model.export.graph_export import describe
from model.networks.registry import build_network

SIZE = (64, 64)


@pytest.mark.parametrize("name", ["stm-mobile", "qmvos-mobile"])
def test_every_object_costs_the_same_and_the_frame_once(name: str) -> None:
    network = build_network(name).eval()
    spec = describe(network, "0" * 64)
    one, two, three = (count_macs(network, spec, objects=n, size=SIZE) for n in (1, 2, 3))
    assert one > two - one > 0
    assert three - two == pytest.approx(two - one, rel=0.02)


def test_a_frame_pays_its_share_of_an_entry_that_memorize_makes() -> None:
    network = build_network("qmvos-mobile").eval()
    spec = describe(network, "0" * 64)
    rarely, always = (
        count_macs(network, replace(spec, retention=replace(spec.retention, every=n)), size=SIZE)
        for n in (10, 1)
    )
    half = count_macs(network, replace(spec, retention=replace(spec.retention, every=2)), size=SIZE)
    assert always - half == pytest.approx((always - rarely) * (1 / 2) / (9 / 10), rel=0.01)
    assert always > rarely
