"""The offline loop: which clips it makes, what it remembers, and that it follows an object."""

import cv2
import numpy as np
import pytest

from model.core.contract import SHIPPED_WEIGHTS
from model.core.j_and_f import jaccard
from model.data.photograph import make_moving_photograph
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import OfflineTracker


@pytest.fixture(scope="module")
def shipped() -> GraphRuntime:
    return GraphRuntime(SHIPPED_WEIGHTS, "tamvt-mobile", threads=1)


@pytest.fixture(scope="module")
def video() -> tuple[list[bytes], np.ndarray]:
    """Encoded frames and true masks of a photograph that moves."""
    frames, masks = make_moving_photograph(14)
    return [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames], masks


def test_the_shipped_model_follows_a_face(
    shipped: GraphRuntime, video: tuple[list[bytes], np.ndarray]
) -> None:
    images, masks = video
    tracker = OfflineTracker(shipped, images[0], masks[0])
    found = [frame.labels > 0 for frame in tracker.track(images[1:])]
    scores = [jaccard(a, b > 0) for a, b in zip(found, masks[1:], strict=True)]
    assert len(found) == 13
    assert np.mean(scores) > 0.7


def test_the_last_clip_may_be_shorter_and_is_remembered(
    shipped: GraphRuntime, video: tuple[list[bytes], np.ndarray]
) -> None:
    images, masks = video
    tracker = OfflineTracker(shipped, images[0], masks[0], memory_size=3)
    frames = list(tracker.track(images[1:6]))
    assert len(frames) == 5
    assert [entry.frame for entry in tracker.memory.entries] == [0, 4, 5]


def test_two_objects_are_told_apart(
    shipped: GraphRuntime, video: tuple[list[bytes], np.ndarray]
) -> None:
    images, masks = video
    labels = masks[0] * 3
    labels[300:340, 20:120] = 7
    tracker = OfflineTracker(shipped, images[0], labels)
    frame = next(iter(tracker.track(images[1:])))
    assert tracker.object_ids == (3, 7)
    assert frame.soft.shape[0] == 2
    assert set(np.unique(frame.labels)) <= {0, 3, 7}
