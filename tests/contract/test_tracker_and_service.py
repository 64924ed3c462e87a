"""The offline loop and the running service give the same masks: what is measured is served."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.palette import read_label_map
from model.evaluation.runtime import GraphRuntime
from model.evaluation.tracker import LIMITS, OfflineTracker
from tests.support import scene
from tests.support.running import Api, Running, form

FRAMES = 23  # more than the memory holds, and a last clip that is shorter
SHIPPED = Path(__file__).resolve().parents[2] / "model" / "weights"


def offline(
    folder: Path, name: str, images: Sequence[bytes], *, objects: int, **memory: Any
) -> list[NDArray[np.uint8]]:
    """The label maps of the loop, from the second frame on."""
    runtime = GraphRuntime(folder, name, threads=1)
    tracker = OfflineTracker(runtime, images[0], scene.labels(0, objects=objects), **memory)
    return [frame.labels for frame in tracker.track(images[1:])]


def served(
    api: Api, images: Sequence[bytes], *, objects: int, append: int, **options: Any
) -> list[NDArray[np.uint8]]:
    """The label maps of the service, sent `append` frames at a time."""
    parts = [
        ("frame", images[0]),
        ("mask", scene.mask(objects=objects)),
        ("options", httpx.Response(200, json=options).content),
    ]
    started = api.http.post("/v1/sessions", files=form(parts))
    assert started.status_code == 201, started.text
    session = started.json()["session_id"]
    for first in range(1, len(images), append):
        answer = api.append(session, images[first : first + append], first=first)
        assert answer.status_code == 200, answer.text
    archive = api.masks(session, from_=1, to=len(images) - 1, format="png")
    assert archive.status_code == 200, archive.text
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        pngs = [opened.read(name) for name in sorted(opened.namelist())]
    return [read_label_map(png, LIMITS) for png in pngs]


def pictures(kind: str, *, objects: int) -> list[bytes]:
    """The made-up video as JPEGs, which are kept as they come, or PNGs, which are not."""
    encode = scene.jpeg if kind == "jpeg" else scene.png
    return [encode(number, objects=objects) for number in range(FRAMES)]


def same(ours: Sequence[NDArray[np.uint8]], theirs: Sequence[NDArray[np.uint8]]) -> bool:
    assert len(ours) == len(theirs) == FRAMES - 1
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("kind", ["jpeg", "png"])
@pytest.mark.parametrize("objects", [1, 2])
def test_both_loops_give_the_same_masks(
    api: Api, toy_folder: Path, kind: str, objects: int
) -> None:
    images = pictures(kind, objects=objects)
    ours = offline(toy_folder, "toy", images, objects=objects)
    assert any(labels.any() for labels in ours)
    assert same(ours, served(api, images, objects=objects, append=6))


@pytest.mark.parametrize(("clip_length", "memory_size"), [(1, 1), (3, 2), (4, 9)])
def test_they_agree_for_other_clips_and_memories(
    api: Api, toy_folder: Path, clip_length: int, memory_size: int
) -> None:
    options = {"clip_length": clip_length, "memory_size": memory_size}
    images = pictures("jpeg", objects=2)
    ours = offline(toy_folder, "toy", images, objects=2, **options)
    assert same(ours, served(api, images, objects=2, append=2 * clip_length, **options))


def test_they_agree_on_the_shipped_model(shipped: Running) -> None:
    images = pictures("jpeg", objects=2)
    ours = offline(SHIPPED, "tamvt-mobile", images, objects=2)
    with httpx.Client(base_url=shipped.url, timeout=60.0) as http:
        assert same(ours, served(Api(http), images, objects=2, append=8))
