"""Requests that cost much where little is sent: while one is answered, the service answers others.

On a free machine /healthz waits at most 100 ms; the tests leave room for a busy one.
"""

from __future__ import annotations

import threading
import time

import httpx
import numpy as np
import pytest

from tests.support import scene
from tests.support.running import PATIENCE_S, Api, problem

LONGEST_S = 2.0  # the least of them took 10 s before it was bounded


def polygon(points: int) -> bytes:
    corners = np.random.default_rng(0).integers(0, (scene.WIDTH, scene.HEIGHT), (points, 2))
    return f'[{{"id":1,"polygons":[{corners.ravel().tolist()}]}}]'.encode()


COSTLY = {
    "a key twice": b"[{" + b",".join(b'"%d":0' % n for n in range(180_000)) + b',"0":0}]',
    "objects of many keys": b"[" + b'{"a":0},' * 240_000 + b"0]",
    "wrong items": b"[" + b"0," * 990_000 + b"0]",
    "lists": b"[" + b"[]," * 660_000 + b"0]",
    "a polygon of many edges": polygon(20_000),
    "too many points": polygon(200_000),
    "a box with a list of texts": b'[{"id":1,"box":[' + b'"",' * 600_000 + b'""]}]',
}


@pytest.mark.parametrize("name", COSTLY)
def test_others_are_answered_meanwhile(api: Api, name: str) -> None:
    begun, ended = threading.Event(), threading.Event()
    waits: list[float] = []

    def ask() -> None:
        with httpx.Client(base_url=api.http.base_url, timeout=PATIENCE_S) as other:
            while not ended.is_set():
                begin = time.perf_counter()
                other.get("/healthz")
                waits.append(time.perf_counter() - begin)
                begun.set()

    asking = threading.Thread(target=ask)
    asking.start()
    begun.wait(PATIENCE_S)
    answer = api.post_start(("frame", scene.png(0)), ("objects", COSTLY[name]))
    ended.set()
    asking.join()
    if answer.status_code != 201:
        assert problem(answer)[0] in (400, 413, 422)
    assert max(waits) < LONGEST_S
