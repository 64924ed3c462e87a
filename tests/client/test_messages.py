"""What the client makes of the service's answers."""

from __future__ import annotations

import numpy as np

from model.core.encoding import encode_rle
from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from tamvt_client import Client, FrameMasksOut, ObjectPrompt
from tests.support import scene
from tests.support.running import Running

SIZE = (6, 8)


def frame_masks(**boxes: tuple[int, int, int, int]) -> FrameMasksOut:
    """A frame's answer with rectangles x, y, width, height; the names are `object_<id>`."""
    objects = []
    for name, (x, y, width, height) in boxes.items():
        mask = np.zeros(SIZE, np.bool_)
        mask[y : y + height, x : x + width] = True
        objects.append(
            {
                "id": int(name.removeprefix("object_")),
                "rle": encode_rle(mask),
                "area": int(mask.sum()),
                "bbox": [x, y, width, height],
                "confidence": 1.0,
                "state": "human",
            }
        )
    return FrameMasksOut.model_validate({"frame": 0, "objects": objects})


def test_a_label_map_holds_every_object_under_its_id() -> None:
    labels = frame_masks(object_3=(0, 0, 2, 2), object_200=(4, 3, 3, 2)).label_map(SIZE)
    assert labels.dtype == np.uint8
    assert labels.shape == SIZE
    assert (labels[:2, :2] == 3).all()
    assert (labels[3:5, 4:7] == 200).all()
    assert (labels > 0).sum() == 4 + 6


def test_where_masks_overlap_the_lowest_id_is_seen() -> None:
    labels = frame_masks(object_9=(0, 0, 8, 6), object_2=(1, 1, 3, 3)).label_map(SIZE)
    assert (labels[1:4, 1:4] == 2).all()
    assert (labels == 9).sum() == 48 - 9


def test_overlapping_masks_look_the_same_here_and_in_the_services_png(running: Running) -> None:
    height, width = scene.labels(0).shape
    objects = [
        ObjectPrompt(object_id=5, box=(0, 0, width, height)),
        ObjectPrompt(object_id=2, box=(10, 20, 30, 40)),
    ]
    with Client(running.url) as client:
        session = client.start(scene.jpeg(0), objects=objects)
        (given,) = client.masks(session.session_id)
        png = client.mask_png(session.session_id, 0)
    labels = given.label_map(session.frame_size)
    assert set(np.unique(labels)) == {2, 5}
    assert (labels == read_label_map(png, ImageLimits())).all()
