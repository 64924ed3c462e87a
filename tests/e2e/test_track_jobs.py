"""What `tamvt track` makes of folders and jobs as they are: odd files, damage, stops, lost objects.

Each test is a real service and files; the toy model follows the drawn square exactly. The command
runs in this process, which is quicker, but where its environment matters.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from service.__main__ import main
from service.commands.track_job.results import locked
from tests.support import scene
from tests.support.bad_images import bomb
from tests.support.running import Running, run_tamvt

FRAMES = 12
DAMAGED = 10  # the second frame of its append, which begins at 9


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """The drawn video as images, its mask beside their folder."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "mask.png").write_bytes(scene.mask())
    for number in range(FRAMES):
        (tmp_path / "frames" / f"{number}.jpg").write_bytes(scene.jpeg(number))
    return tmp_path / "frames"


class Track:
    """`tamvt track` on a folder of frames: the exit status, and what it says."""

    def __init__(self, running: Running, frames: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._running, self._capsys = running, capsys
        self._frames = frames
        self.mask, self.out = frames.parent / "mask.png", frames.parent / "out"

    def words(self, *more: str) -> list[str]:
        mask = ("--mask", str(self.mask))
        return [
            "track",
            str(self._frames),
            *mask,
            "-o",
            str(self.out),
            "--url",
            self._running.url,
            *more,
        ]

    def __call__(self, *more: str) -> tuple[int, str]:
        status = main(self.words(*more))
        return status, self._capsys.readouterr().err


@pytest.fixture
def track(running: Running, frames: Path, capsys: pytest.CaptureFixture[str]) -> Track:
    return Track(running, frames, capsys)


def masks(frames: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        path.stem: read_label_map(path.read_bytes(), ImageLimits())
        for path in (frames.parent / "out" / "masks").iterdir()
    }


def states(frames: Path) -> list[dict[str, str]]:
    with (frames.parent / "out" / "states.csv").open(errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def assert_all_follow(frames: Path, count: int = FRAMES) -> None:
    found = masks(frames)
    assert set(found) == {str(number) for number in range(count)}
    assert min((found[str(n)] == scene.labels(n)).mean() for n in range(count)) > 0.97


def test_a_folder_with_other_files_among_its_frames_is_tracked(track: Track, frames: Path) -> None:
    for number in range(FRAMES):
        (frames / f"._{number}.jpg").write_bytes(b"of a Mac")
        if number % 5 == 3:
            bgr = cv2.cvtColor(scene.picture(number), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(frames / f"{number}.{'bmp' if number == 3 else 'tif'}"), bgr)
            (frames / f"{number}.jpg").unlink()
    (frames / "mask.png").write_bytes(scene.mask())
    (frames / "masks").mkdir()
    track.mask = frames / "mask.png"
    done, said = track()
    assert done == 0, said
    assert_all_follow(frames)
    assert "12 hidden files ('._0.jpg', '._1.jpg', '._2.jpg', ...)" in said
    assert "1 folder ('masks'), 1 other file ('mask.png')" in said


def test_names_of_any_bytes_are_tracked_and_printed(track: Track, frames: Path) -> None:
    stems = [os.fsdecode(b"prise_\xe9t\xe9_%02d" % number) for number in range(FRAMES)]
    for number, stem in enumerate(stems):
        (frames / f"{number}.jpg").rename(frames / f"{stem}.jpg")
    out = frames.parent / os.fsdecode(b"masques_\xe9t\xe9")
    out.symlink_to(frames.parent / "out")
    (frames.parent / "out").mkdir()
    track.out = out
    done = run_tamvt(*track.words(), settings={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert set(masks(frames)) == set(stems)
    assert [row["frame"] for row in states(frames)] == stems
    assert r"masques_\udce9t\udce9/masks" in done.stdout


def test_a_damaged_frame_is_named_and_after_its_repair_the_job_goes_on(
    track: Track, frames: Path
) -> None:
    whole = (frames / f"{DAMAGED}.jpg").read_bytes()
    (frames / f"{DAMAGED}.jpg").write_bytes(whole[: len(whole) // 2])
    failed, said = track()
    assert failed == 1
    assert said.splitlines()[-1].startswith(f"tamvt track: '{DAMAGED}.jpg': the JPEG is truncated")
    assert_all_follow(frames, DAMAGED)
    (frames / f"{DAMAGED}.jpg").write_bytes(whole)
    (frames / f"{FRAMES}.jpg").write_bytes(scene.jpeg(FRAMES))
    done, said = track()
    assert done == 0, said
    assert f"going on at frame {DAMAGED}" in said
    assert_all_follow(frames, FRAMES + 1)
    assert len(states(frames)) == FRAMES + 1


def test_a_frame_that_the_service_refuses_is_named_and_costs_no_other(
    track: Track, frames: Path
) -> None:
    small = np.ascontiguousarray(scene.picture(DAMAGED)[::2, ::2])
    (frames / f"{DAMAGED}.jpg").write_bytes(scene.encode(small, ".jpg"))
    failed, said = track()
    assert failed == 1
    assert said.splitlines()[-1] == (
        f"tamvt track: '{DAMAGED}.jpg' is 64x48, but the session's frames are 128x96"
    )
    assert_all_follow(frames, DAMAGED)


def test_a_damaged_reference_is_named(track: Track, frames: Path) -> None:
    (frames / "0.jpg").write_bytes(scene.jpeg(0)[:-9])
    failed, said = track()
    assert failed == 1
    assert said.startswith("tamvt track: '0.jpg': the JPEG is truncated")


def test_masks_that_were_deleted_are_made_again(track: Track, frames: Path) -> None:
    assert track()[0] == 0
    (frames.parent / "out" / "masks" / "4.png").unlink()
    done, said = track()
    assert done == 0, said
    assert "some masks are missing" in said
    assert_all_follow(frames)


def test_masks_of_an_unfinished_job_are_made_again(track: Track, frames: Path) -> None:
    (frames / f"{DAMAGED}.jpg").write_bytes(b"")
    assert track()[0] == 1
    for name in ("0", "4"):
        (frames.parent / "out" / "masks" / f"{name}.png").unlink()
    (frames / f"{DAMAGED}.jpg").write_bytes(scene.jpeg(DAMAGED))
    done, said = track()
    assert done == 0, said
    assert_all_follow(frames)
    assert [row["frame"] for row in states(frames)] == [str(n) for n in range(FRAMES)]


def test_frames_that_were_added_to_a_finished_job_are_tracked(track: Track, frames: Path) -> None:
    assert track()[0] == 0
    (frames / f"{FRAMES}.jpg").write_bytes(scene.jpeg(FRAMES))
    done, said = track()
    assert done == 0, said
    assert "there are more frames now" in said
    assert_all_follow(frames, FRAMES + 1)


def test_a_frame_that_was_tracked_may_not_change(track: Track, frames: Path) -> None:
    (frames / f"{DAMAGED}.jpg").write_bytes(b"")
    assert track()[0] == 1
    (frames / "4.jpg").write_bytes(scene.png(4))
    refused, said = track()
    assert refused == 1
    assert "holds the masks of another video, mask or option" in said


def test_two_runs_in_one_folder_are_told_so(track: Track, frames: Path) -> None:
    with locked(frames.parent / "out"):
        refused, said = track()
    assert refused == 1
    assert "another run writes to" in said
    assert track()[0] == 0


def test_lost_objects_are_told(track: Track, frames: Path) -> None:
    floor = np.full((scene.HEIGHT, scene.WIDTH, 3), scene.FLOOR, np.uint8)
    for number in (4, 5):
        (frames / f"{number}.jpg").write_bytes(scene.encode(floor, ".jpg"))
    done, said = track()
    assert done == 0, said
    assert "object 1 is lost in 2 of 12 frames: see " in said
    table = states(frames)
    expected = ["human", *["visible"] * 3, "lost", "lost", *["visible"] * 6]
    assert [row["state"] for row in table] == expected
    assert table[0] == {"frame": "0", "object": "1", "state": "human", "confidence": "1.0"}
    assert float(table[4]["confidence"]) == 0 < float(table[6]["confidence"]) <= 1
    assert track()[1].count("is lost in") == 1  # of a finished job too


def test_a_limit_that_the_mask_breaks_tells_how_it_is_raised(track: Track, frames: Path) -> None:
    track.mask.write_bytes(bomb(width=7680, height=4320))
    status, said = track()
    assert status == 1
    assert "raise TAMVT_MAX_FRAME_WIDTH and TAMVT_MAX_FRAME_HEIGHT" in said


def test_proxies_do_not_stand_before_this_machine(track: Track, frames: Path) -> None:
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY"), "http://127.0.0.1:9")
    socks = dict.fromkeys(("ALL_PROXY", "all_proxy"), "socks5://127.0.0.1:9")
    done = run_tamvt(*track.words(), settings={**nowhere, **socks})
    assert done.returncode == 0, done.stderr
    assert_all_follow(frames)
