"""`tamvt.Tracker` gives the masks that a service gives, without one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tamvt
from model.core.palette import read_label_map, write_label_map
from model.core.pixels import ImageLimits
from service.errors import BadImage, BadMask, ModelMissing, WrongFrameSize
from tests.support import scene
from tests.support.running import Api

FRAMES = 12
IMAGES = [scene.png(number, objects=2) for number in range(FRAMES)]
MASK = write_label_map(scene.labels(0, objects=2))


@pytest.mark.parametrize("clip_length", [1, 2])
def test_masks_are_those_of_a_service(api: Api, toy_folder: Path, clip_length: int) -> None:
    session = api.start(objects=2, clip_length=clip_length, memory_size=3)
    assert api.append(session, IMAGES[1:], first=1).status_code == 200
    tracker = tamvt.Tracker(
        IMAGES[0],
        MASK,
        model="toy",
        weights=toy_folder,
        clip_length=clip_length,
        memory_size=3,
    )
    found = list(tracker.track(IMAGES[1:7])) + list(tracker.track(IMAGES[7:]))
    assert [frame.number for frame in found] == list(range(1, FRAMES))
    assert (tracker.object_ids, tracker.next_frame) == ((1, 2), FRAMES)
    for frame in found:
        stored = api.http.get(f"/v1/sessions/{session}/masks/{frame.number}.png").content
        assert np.array_equal(frame.labels, read_label_map(stored, ImageLimits()))
        objects = api.masks(session, from_=frame.number, to=frame.number).json()["frames"][0]
        for each in objects["objects"]:
            assert each["confidence"] == pytest.approx(frame.confidence[each["id"]])
            assert (each["state"] == "lost") == (each["id"] in frame.lost)


def test_arrays_and_pillow_images_are_taken_as_they_are(toy_folder: Path) -> None:
    arrays = [np.asarray(Image.open(io.BytesIO(image)).convert("RGB")) for image in IMAGES]
    tracker = tamvt.Tracker(arrays[0], scene.labels(0, objects=2), model="toy", weights=toy_folder)
    pictures = tamvt.Tracker(Image.fromarray(arrays[0]), MASK, model="toy", weights=toy_folder)
    for one, other in zip(
        tracker.track(arrays[1:]), pictures.track(map(Image.fromarray, arrays[1:])), strict=True
    ):
        assert np.array_equal(one.labels, other.labels)


def test_a_bad_frame_loses_nothing(toy_folder: Path) -> None:
    tracker, other = (
        tamvt.Tracker(IMAGES[0], MASK, model="toy", weights=toy_folder) for _ in range(2)
    )
    with pytest.raises(BadImage, match="frame 1"):
        list(tracker.track([b"no image", IMAGES[1]]))
    small = Image.open(io.BytesIO(IMAGES[2])).resize((48, 32))
    with pytest.raises(WrongFrameSize, match="frame 2"):
        list(tracker.track([IMAGES[1], small]))
    assert tracker.next_frame == 1
    for one, fresh in zip(tracker.track(IMAGES[1:]), other.track(IMAGES[1:]), strict=True):
        assert np.array_equal(one.labels, fresh.labels)


def test_what_cannot_begin_says_why(toy_folder: Path) -> None:
    with pytest.raises(BadImage, match="the frame"):
        tamvt.Tracker(b"no image", MASK, model="toy", weights=toy_folder)
    with pytest.raises(BadMask, match="the mask"):
        tamvt.Tracker(IMAGES[0], b"no mask", model="toy", weights=toy_folder)
    with pytest.raises(ModelMissing, match="there-is-none"):
        tamvt.Tracker(IMAGES[0], MASK, model="there-is-none", weights=toy_folder)
