"""The files that a tracking job leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from service.commands.track_job.results import LostMasks, TrackResults, locked
from service.errors import BadOption
from tamvt_client import FrameMasksOut
from tamvt_client.masks import encode_rle
from tests.support import scene

SIZE = (scene.HEIGHT, scene.WIDTH)


def masks(frame: int, state: str) -> FrameMasksOut:
    labels = scene.labels(frame, objects=2)
    objects = [
        {
            "id": object_id,
            "rle": encode_rle(labels == object_id),
            "area": int((labels == object_id).sum()),
            "bbox": (0, 0, 1, 1),
            "confidence": 0.123456,
            "state": state if object_id == 2 else "visible",
        }
        for object_id in (1, 2)
    ]
    return FrameMasksOut.model_validate({"frame": frame, "objects": objects})


def seen(results: TrackResults, name: str) -> set[int]:
    labels = read_label_map(results.name_mask_file(name).read_bytes(), ImageLimits())
    return set(labels.ravel().tolist())


@pytest.mark.parametrize(("lost", "ids"), [("keep", {0, 1, 2}), ("empty", {0, 1})])
def test_a_lost_object_keeps_its_mask_unless_it_is_to_be_empty(
    lost: LostMasks, ids: set[int], tmp_path: Path
) -> None:
    results = TrackResults(tmp_path, lost=lost)
    results.begin(scene.labels(0, objects=2), ["a"])
    results.write([("b", masks(1, "lost")), ("c", masks(2, "visible"))], SIZE)
    assert (seen(results, "b"), seen(results, "c")) == (ids, {0, 1, 2})
    assert results.states.read_text() == (
        "frame,object,state,confidence\n"
        "a,1,human,1.0\na,2,human,1.0\n"
        "b,1,visible,0.1235\nb,2,lost,0.1235\n"
        "c,1,visible,0.1235\nc,2,visible,0.1235\n"
    )
    (told,) = results.tell_of_lost()
    assert told == f"object 2 is lost in 1 of 3 frames: see {tmp_path / 'states.csv'}"


def test_what_comes_after_a_stop_is_written_once(tmp_path: Path) -> None:
    results = TrackResults(tmp_path)
    results.begin(scene.labels(0), ["a"])
    results.write([(name, masks(1, "visible")) for name in "bcd"], SIZE)
    results.begin(scene.labels(0), ["a", "b"])
    results.write([("c", masks(1, "visible"))], SIZE)
    frames = [line.split(",")[0] for line in results.states.read_text().splitlines()[1:]]
    assert frames == ["a", "b", "b", "c", "c"]


def test_a_frame_without_its_mask_or_its_states_is_missing(tmp_path: Path) -> None:
    results = TrackResults(tmp_path)
    results.begin(scene.labels(0), ["a"])
    results.write([(name, masks(1, "visible")) for name in "bcd"], SIZE)
    assert results.find_first_missing(list("abcd")) == 4
    assert results.find_first_missing(list("abcde")) == 4
    results.name_mask_file("c").unlink()
    assert results.find_first_missing(list("abcd")) == 2
    results.states.write_text("frame,object,state,confidence\na,1,human,1.0\nb,1")
    assert results.find_first_missing(list("abcd")) == 1
    results.states.unlink()
    assert results.find_first_missing(list("abcd")) == 0


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    with locked(tmp_path / "out"):
        with pytest.raises(BadOption, match="another run writes"), locked(tmp_path / "out"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "out"):
        pass
