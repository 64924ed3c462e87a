"""A person's mask outranks predictions: what follows a correction follows it, in both loops."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.memory import MemoryFull
from model.core.palette import read_label_map, write_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import LIMITS, OfflineTracker
from tests.support import scene
from tests.support.running import Api, Running, form

HEIGHT, WIDTH, FRAMES, CORRECTED = 180, 320, 37, 26
LEAST_J = 0.9


def blurred_noise(seed: int, height: int, width: int, color: Sequence[int]) -> NDArray[Any]:
    noise = np.random.default_rng(seed).normal(size=(height, width, 3)).astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigmaX=4))
    return np.asarray(np.clip(np.array(color) + 30 * blurred / blurred.std(), 0, 255))


@cache
def twins() -> tuple[list[bytes], list[NDArray[np.uint8]]]:
    """Two objects that look much alike meet and pass: frames, and true label maps."""
    floor = blurred_noise(1, HEIGHT, WIDTH, (110, 120, 100))
    one, other = (blurred_noise(2, 56, 40, (200, 90, 60)), blurred_noise(5, 56, 40, (200, 100, 70)))
    skins = {1: one, 2: 0.7 * one + 0.3 * other}
    shape = cv2.ellipse(np.zeros((56, 40), np.uint8), (20, 28), (18, 26), 0, 0, 360, 1, -1) > 0
    images, truth = [], []
    for number in range(FRAMES):
        picture, labels = floor.astype(np.uint8), np.zeros((HEIGHT, WIDTH), np.uint8)
        for name, x, y in ((2, 220 - 4 * number, 64), (1, 60 + 4 * number, 60)):
            picture[y : y + 56, x : x + 40][shape] = skins[name][shape].astype(np.uint8)
            labels[y : y + 56, x : x + 40][shape] = name
        _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        images.append(jpeg.tobytes())
        truth.append(labels)
    return images, truth


def put(api: Api, session: str, labels: NDArray[np.uint8]) -> httpx.Response:
    files = form([("mask", write_label_map(labels))])
    return api.http.put(f"/v1/sessions/{session}/objects", files=files)


def label_maps(api: Api, session: str, numbers: range) -> list[NDArray[np.uint8]]:
    path = f"/v1/sessions/{session}/masks"
    return [
        read_label_map(api.http.get(f"{path}/{number}.png").content, LIMITS) for number in numbers
    ]


def j_of(found: Sequence[NDArray[np.uint8]], truth: Sequence[NDArray[np.uint8]]) -> list[float]:
    """J of each of the twins, the mean over these frames."""
    return [
        float(
            np.mean(
                [
                    ((a == name) & (b == name)).sum() / ((a == name) | (b == name)).sum()
                    for a, b in zip(found, truth, strict=True)
                ]
            )
        )
        for name in (1, 2)
    ]


def test_twins_that_were_exchanged_follow_their_correction(shipped: Running) -> None:
    images, truth = twins()
    rest = range(CORRECTED + 1, FRAMES)
    runtime = GraphRuntime(SHIPPED_WEIGHTS, "tamvt-mobile", threads=1)
    offline = OfflineTracker(runtime, images[0], truth[0])
    list(offline.track(images[1 : CORRECTED + 1]))
    offline.correct(truth[CORRECTED])
    followed = [frame.labels for frame in offline.track(images[CORRECTED + 1 :])]
    assert min(j_of(followed, truth[CORRECTED + 1 :])) > LEAST_J
    with httpx.Client(base_url=shipped.url, timeout=60.0) as http:
        api = Api(http)
        parts = (("frame", images[0]), ("mask", write_label_map(truth[0])))
        session = api.post_start(*parts).json()["session_id"]
        api.append(session, images[1 : CORRECTED + 1], first=1)
        untouched = api.http.post(f"/v1/sessions/{session}/fork").json()["session_id"]
        assert put(api, session, truth[CORRECTED]).status_code == 200
        for name in (session, untouched):
            answer = api.append(name, images[CORRECTED + 1 :], first=CORRECTED + 1)
            assert answer.status_code == 200, answer.text
        served, wrong = (label_maps(api, name, rest) for name in (session, untouched))
    assert max(j_of(wrong, truth[CORRECTED + 1 :])) < LEAST_J  # so there was something to correct
    assert all(np.array_equal(a, b) for a, b in zip(served, followed, strict=True))


def test_a_fork_goes_on_as_if_the_rest_had_never_been(shipped: Running) -> None:
    """From any frame, on either side of a correction, and bit for bit."""
    images, truth = twins()
    with httpx.Client(base_url=shipped.url, timeout=60.0) as http:
        api = Api(http)
        parts = (("frame", images[0]), ("mask", write_label_map(truth[0])))
        session = api.post_start(*parts).json()["session_id"]
        api.append(session, images[1:13], first=1)
        assert put(api, session, truth[12]).status_code == 200
        whole = api.append(session, images[13:21], first=13).json()["frames"]
        before = api.masks(session, from_=0, to=11).json()["frames"]
        for at, first in ((13, 13), (15, 15), (5, 5)):
            fork = http.post(f"/v1/sessions/{session}/fork", params={"at": at}).json()
            assert fork["next_frame"] == first
            answer = api.append(fork["session_id"], images[first : first + 6], first=first).json()
            known = {frame["frame"]: frame for frame in (*before, *whole)}
            assert answer["frames"] == [known[frame] for frame in range(first, first + 6)]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    clips=st.lists(st.sets(st.sampled_from([1, 2]), max_size=2), min_size=2, max_size=7),
    memory_size=st.sampled_from([1, 3, 4, 6]),
    clip_length=st.sampled_from([1, 2]),
)
def test_both_loops_agree_after_random_corrections(
    api: Api, toy_folder: Path, clips: list[set[int]], memory_size: int, clip_length: int
) -> None:
    """After each clip a person may give the masks of some objects; object 2 may be a new one."""
    images = [scene.jpeg(n, objects=2) for n in range(len(clips) * clip_length + 1)]
    runtime = GraphRuntime(toy_folder, "toy", threads=1)
    offline = OfflineTracker(
        runtime, images[0], scene.labels(0), memory_size=memory_size, clip_length=clip_length
    )
    options = {"memory_size": memory_size, "clip_length": clip_length}
    parts = (
        ("frame", images[0]),
        ("mask", scene.mask()),
        ("options", json.dumps(options).encode()),
    )
    session = api.post_start(*parts).json()["session_id"]
    for clip, drawn in enumerate(clips):
        numbers = range(clip * clip_length + 1, (clip + 1) * clip_length + 1)
        ours = [frame.labels for frame in offline.track([images[number] for number in numbers])]
        api.append(session, [images[number] for number in numbers], first=numbers[0])
        theirs = label_maps(api, session, numbers)
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        if drawn:
            labels = scene.labels(numbers[-1], objects=2)
            labels[~np.isin(labels, list(drawn))] = 0
            status = put(api, session, labels).status_code
            if status == 409:
                with pytest.raises(MemoryFull):
                    offline.correct(labels)
            else:
                assert status == 200
                offline.correct(labels)
