"""Policies of memory that are tried without training: each tracks, and rivals stay."""

from pathlib import Path

import numpy as np
import pytest

from model.data.yardstick import HardClip
from model.evaluation.runtime import GraphRuntime
from scripts.measure.memory_policies import POLICIES, RivalTracker, keep_largest_parts, track
from tests.support import scene

FRAMES = 12


@pytest.fixture
def runtime(toy_folder: Path) -> GraphRuntime:
    return GraphRuntime(toy_folder, "toy", threads=1)


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_tracks_and_leaves_the_model_as_it_was(
    runtime: GraphRuntime, name: str
) -> None:
    before = runtime.spec
    labels = np.stack([scene.labels(number) for number in range(FRAMES)])
    clip = HardClip("walk", tuple(scene.png(number) for number in range(FRAMES)), labels)
    (j,) = track(runtime, [clip], POLICIES[name])
    assert j == pytest.approx(1, abs=0.1)
    assert runtime.spec is before


def test_the_largest_part_stays_where_another_is_large_enough() -> None:
    soft = np.zeros((2, 20, 20), np.uint8)
    soft[0, 2:8, 2:8] = soft[0, 12:15, 12:15] = 200
    soft[1, 5:7, 5:7] = 200
    alone = keep_largest_parts(soft)
    assert alone is not None
    assert (alone[0, 2:8, 2:8] == 200).all()
    assert not alone[0, 12:].any()
    assert (alone[1] == soft[1]).all()
    soft[0, 13:15] = 0  # 3 of 36 pixels are left of the other part
    assert keep_largest_parts(soft) is None


def test_the_last_rival_stays_until_the_next(
    runtime: GraphRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rivals = {4}
    tracker = RivalTracker(runtime, scene.png(0), scene.labels(0), clip_length=1, memory_size=5)
    monkeypatch.setattr(
        "scripts.measure.memory_policies.keep_largest_parts",
        lambda soft: soft if tracker.memory.newest.frame in rivals else None,
    )
    for _ in tracker.track(scene.png(number) for number in range(1, FRAMES)):
        pass
    assert [entry.frame for entry in tracker.memory.entries] == [0, 4, 9, 10, 11]
