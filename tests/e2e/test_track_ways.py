"""`tamvt track` both ways from a frame in the middle, and with corrections: a process, files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.palette import read_label_map, write_label_map
from model.core.pixels import ImageLimits
from service.media.video import open_source
from tests.support import scene
from tests.support.running import Running, run_tamvt

FRAMES = 11
MIDDLE = 5


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of images of the made-up video, and the mask of the one in the middle beside it."""
    (tmp_path / "frames").mkdir()
    for number in range(FRAMES):
        (tmp_path / "frames" / f"img_{number}.jpg").write_bytes(scene.jpeg(number))
    (tmp_path / "mask.png").write_bytes(write_label_map(scene.labels(MIDDLE)))
    return tmp_path


def track(video: Path, running: Running, *more: str) -> tuple[int, str]:
    """Run the command from the frame in the middle; its status and what it said."""
    folder = video.parent
    words = ["track", str(video), "--mask", str(folder / "mask.png"), "-o", str(folder / "out")]
    done = run_tamvt(*words, "--reference-frame", str(MIDDLE), "--url", running.url, *more)
    return done.returncode, done.stderr


def masks_of(out: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        file.stem: read_label_map(file.read_bytes(), ImageLimits())
        for file in (out / "masks").glob("*.png")
    }


def states_of(out: Path) -> list[tuple[str, str]]:
    with (out / "states.csv").open() as file:
        return [(row["frame"], row["state"]) for row in csv.DictReader(file)]


def test_images_are_tracked_both_ways_and_corrected_on_both(images: Path, running: Running) -> None:
    corrections = images / "corrections"
    corrections.mkdir()
    for number in (2, 8):
        corrected = np.zeros_like(scene.labels(number))
        corrected[60:80, 90:110] = 1
        (corrections / f"img_{number}.png").write_bytes(write_label_map(corrected))
    words = ["--both-ways", "--corrections", str(corrections), "--overlay"]
    status, said = track(images / "frames", running, *words)
    assert status == 0, said
    masks = masks_of(images / "out")
    assert set(masks) == {f"img_{number}" for number in range(FRAMES)}
    for number in (3, 4, 6, 7):
        assert (masks[f"img_{number}"] == scene.labels(number)).mean() > 0.97
    for number in (2, 8):
        assert masks[f"img_{number}"][60:80, 90:110].all()
        assert masks[f"img_{number}"].sum() == 400
    states = states_of(images / "out")
    assert sorted(frame for frame, _ in states) == sorted(masks)
    human = {frame for frame, state in states if state == "human"}
    assert human == {"img_2", "img_5", "img_8"}
    assert len(list(open_source(images / "out" / "overlay.mp4").frames())) == FRAMES
    # Again: nothing is left to do, and with other corrections it is another job.
    status, said = track(images / "frames", running, *words)
    assert (status, said.count("tracked already")) == (0, 2)
    (corrections / "img_8.png").unlink()
    status, said = track(images / "frames", running, *words)
    assert status == 1
    assert "--restart" in said


def test_a_video_file_is_tracked_backward_too(tmp_path: Path, running: Running) -> None:
    video = tmp_path / "video.webm"
    video.write_bytes(scene.video(range(FRAMES), kind="webm"))
    (tmp_path / "mask.png").write_bytes(write_label_map(scene.labels(MIDDLE)))
    status, said = track(video, running, "--both-ways")
    assert status == 0, said
    masks = masks_of(tmp_path / "out")
    assert set(masks) == {f"{number:05d}" for number in range(FRAMES)}
    assert (masks["00000"] == scene.labels(0)).mean() > 0.97
    assert not (tmp_path / "out" / ".tamvt" / "backward").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("img_5.png", "is the reference frame"),
        ("img_2.png", "is before the reference frame"),
        ("img_99.png", "named like no frame"),
        ("img_8.txt", "there is no PNG"),
    ],
)
def test_a_correction_of_no_frame_that_is_tracked_is_refused(
    images: Path, running: Running, name: str, said: str
) -> None:
    corrections = images / "corrections"
    corrections.mkdir()
    (corrections / name).write_bytes(write_label_map(scene.labels(2)))
    status, told = track(images / "frames", running, "--corrections", str(corrections))
    assert status == 1
    assert said in told
