"""What the client adds to the calls: going on, a box to a mask, proxies of the environment."""

from __future__ import annotations

import pytest

import tamvt_client
from model.core.j_and_f import jaccard
from tamvt_client import Client, Unreachable
from tamvt_client.addresses import is_loopback
from tests.support import scene
from tests.support.running import Running


def test_track_and_stream_called_again_go_on(running: Running) -> None:
    with Client(running.url) as client:
        session = client.start(scene.png(0), scene.mask()).session_id
        parts = [[scene.png(k) for k in range(first, first + 3)] for first in (1, 4, 7)]
        called = [client.track(session, parts[0]), client.stream(session, parts[1])]
        numbers = [[masks.frame for masks in found] for found in called]
        numbers.append([masks.frame for masks in client.track(session, parts[2])])
    assert numbers == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_box_becomes_a_mask(running: Running) -> None:
    truth = scene.labels(0) == 1
    rows, columns = truth.any(axis=1).nonzero()[0], truth.any(axis=0).nonzero()[0]
    x, y = int(columns[0]) - 4, int(rows[0]) - 4
    with Client(running.url) as client:
        refined = client.refine(scene.picture(0), (x, y, scene.SIDE + 8, scene.SIDE + 8))
    assert jaccard(refined.mask(), truth) > 0.8
    assert refined.area == refined.mask().sum()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_a_proxy_is_not_asked_for_this_machine(
    running: Running, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with Client(running.url) as client:
        session = client.start(scene.png(0), scene.mask()).session_id
        assert len(list(client.stream(session, [scene.png(1)]))) == 1


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://127.0.0.1:9"])
def test_a_proxy_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with pytest.raises(Unreachable, match="the proxy that the environment names: "):
        Client("http://tracker.example")


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://localhost:8000", True),
        ("http://127.1.2.3", True),
        ("http://[::1]:8000", True),
        ("http://192.168.0.2", False),
        ("https://localhost.example", False),
    ],
)
def test_a_loopback_address_is_told_from_others(url: str, loopback: bool) -> None:
    assert is_loopback(url) is loopback


def test_the_public_names_are_sorted_and_exist() -> None:
    assert sorted(tamvt_client.__all__) == tamvt_client.__all__
    assert all(hasattr(tamvt_client, name) for name in tamvt_client.__all__)
