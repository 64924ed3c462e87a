"""A bank is only a cache: without it the shipped model gives the same masks, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from model.core.contract import SHIPPED_WEIGHTS
from model.core.palette import write_label_map
from tests.faults.gateways import Gateway, gateways
from tests.support import scene
from tests.support.running import PATIENCE_S, Api, form

MODEL = "tamvt-mobile"
CLIPS = 8


def masks_of_a_video(gateway: Gateway, *, memory_size: int) -> list[Any]:
    """The masks of a video whose second object is added, and whose first one is corrected."""
    with httpx.Client(base_url=gateway.url, timeout=PATIENCE_S) as http:
        api = Api(http)
        session = api.start(memory_size=memory_size)
        for clip in range(CLIPS):
            numbers = (2 * clip + 1, 2 * clip + 2)
            images = [scene.jpeg(number, objects=2) for number in numbers]
            answer = api.append(session, images, first=numbers[0])
            assert answer.status_code == 200, answer.text
            if clip in (1, 5):
                labels = write_label_map(scene.labels(numbers[-1], objects=2))
                path = f"/v1/sessions/{session}/objects"
                assert http.put(path, files=form([("mask", labels)])).status_code == 200
        return list(api.masks(session).json()["frames"])


def test_masks_are_the_same_when_every_append_rebuilds_the_bank(
    tmp_path: Path,
) -> None:
    """No bank is kept where there is no room for one; this memory is full after some clips."""
    with (
        gateways(1, SHIPPED_WEIGHTS, model=MODEL, state=tmp_path / "kept") as (kept,),
        gateways(1, SHIPPED_WEIGHTS, model=MODEL, state=tmp_path / "rebuilt", bank_bytes=1) as (
            rebuilt,
        ),
    ):
        expected = masks_of_a_video(kept, memory_size=5)
        assert masks_of_a_video(rebuilt, memory_size=5) == expected
    assert len({item["rle"]["counts"] for frame in expected for item in frame["objects"]}) > CLIPS
