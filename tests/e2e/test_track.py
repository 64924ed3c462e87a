"""`tamvt track` as a user runs it: a process, a real service, files."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from service.commands.track_job.state import TrackState, digest_sent
from service.media.video import open_source
from tamvt_client import Client
from tests.support import scene
from tests.support.running import PATIENCE_S, ROOT, Run, Running, environment, run_tamvt, tamvt

FRAMES = 21
LONG = 200


@pytest.fixture(scope="module")
def settings(toy_folder: Path) -> dict[str, str]:
    return {"TAMVT_WEIGHTS": str(toy_folder), "TAMVT_MODEL": "toy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The made-up video as images, and its first mask beside them."""
    return write_images(tmp_path_factory.mktemp("video"), frames=FRAMES)


def write_images(folder: Path, *, frames: int) -> Path:
    (folder / "frames").mkdir()
    for number in range(frames):
        (folder / "frames" / f"img_{number}.jpg").write_bytes(scene.jpeg(number))
    (folder / "mask.png").write_bytes(scene.mask())
    return folder


def command(folder: Path, out: Path, *arguments: str) -> list[str]:
    video = [str(folder / "frames"), "--mask", str(folder / "mask.png"), "-o", str(out)]
    return ["track", *video, *arguments]


def run(words: list[str], settings: Mapping[str, str] | None = None) -> Run:
    return run_tamvt(*words, settings=settings)


def found_masks(out: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        path.stem: read_label_map(path.read_bytes(), ImageLimits())
        for path in (out / "masks").glob("*.png")
    }


def assert_follows_the_square(out: Path, *, frames: int) -> None:
    masks = found_masks(out)
    assert set(masks) == {f"img_{number}" for number in range(frames)}
    for number in range(frames):
        assert (masks[f"img_{number}"] == scene.labels(number)).mean() > 0.97


def state_of(out: Path) -> TrackState:
    state = TrackState.load(out / ".tamvt" / "track.json")
    assert state is not None
    return state


def stop_at(out: Path, folder: Path, **changes: Any) -> None:
    """Make a finished job one that stopped before a frame."""
    sent = digest_sent(open_source(folder / "frames"), 0, changes["next_frame"] - 1)
    state = state_of(out).model_copy(update={"done": False, "sent": sent, **changes})
    state.save(out / ".tamvt" / "track.json")


def interrupt_after(words: list[str], out: Path, settings: Mapping[str, str]) -> tuple[int, str]:
    """Starts the command and presses Ctrl-C once some masks are there: status and stderr."""
    process = subprocess.Popen(
        tamvt(*words), cwd=ROOT, env=environment(settings), stderr=subprocess.PIPE, text=True
    )
    under_way = False
    while not under_way:
        time.sleep(0.02)
        assert process.poll() is None
        process.send_signal(signal.SIGSTOP)  # so that it does not finish while we look
        state = TrackState.load(out / ".tamvt" / "track.json")
        under_way = state is not None and state.next_frame > 1
        if under_way:
            process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=PATIENCE_S)
    return process.returncode, said


@pytest.fixture(scope="module")
def tracked(
    folder: Path, settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Run]:
    """The folder, tracked by a service of the command's own, with an overlay."""
    out = tmp_path_factory.mktemp("out") / "deep"
    return out, run(command(folder, out, "--overlay"), settings)


def test_every_image_gets_a_mask_under_its_own_name(tracked: tuple[Path, Run]) -> None:
    out, done = tracked
    assert done.returncode == 0, done.stderr
    assert_follows_the_square(out, frames=FRAMES)


def test_the_reference_mask_is_written_as_it_was_given(tracked: tuple[Path, Run]) -> None:
    assert (found_masks(tracked[0])["img_0"] == scene.labels(0)).all()


def test_the_overlay_has_every_frame(tracked: tuple[Path, Run]) -> None:
    assert open_source(tracked[0] / "overlay.mp4").count == FRAMES


def test_the_command_tells_frames_per_second_and_places(tracked: tuple[Path, Run]) -> None:
    out, done = tracked
    assert f"{FRAMES - 1} frames in " in done.stdout
    assert " frames/s" in done.stdout
    assert str(out / "masks") in done.stdout
    assert str(out / "overlay.mp4") in done.stdout


def test_nothing_of_its_own_service_is_left(tracked: tuple[Path, Run]) -> None:
    assert [path.name for path in (tracked[0] / ".tamvt").iterdir()] == ["track.json"]


def test_a_finished_job_is_not_done_again(
    tracked: tuple[Path, Run], folder: Path, settings: dict[str, str]
) -> None:
    again = run(command(folder, tracked[0]), settings)
    assert again.returncode == 0
    assert "tracked already" in again.stderr


def soft_mask() -> NDArray[np.uint8]:
    """The reference mask as a paint program saves it: white, with soft edges."""
    white = (scene.labels(0) == 1).astype(np.uint8) * np.uint8(255)
    return np.asarray(cv2.GaussianBlur(white, (0, 0), 1.2), np.uint8)


def flat_color() -> NDArray[np.uint8]:
    """The reference mask as an annotation tool saves it: one color on black."""
    return np.array([(0, 0, 0), (250, 50, 83)], np.uint8)[scene.labels(0)]


@pytest.mark.parametrize("mask", [soft_mask(), flat_color()], ids=["soft edges", "flat color"])
def test_a_mask_as_tools_save_it_is_tracked_like_a_clean_one(
    mask: NDArray[np.uint8], running: Running, tmp_path: Path
) -> None:
    folder = write_images(tmp_path, frames=5)
    Image.fromarray(mask).save(folder / "mask.png")
    done = run(command(folder, tmp_path / "out", "--url", running.url))
    assert done.returncode == 0, done.stderr
    assert_follows_the_square(tmp_path / "out", frames=5)
    assert "the mask shows object 1 (" in done.stderr


def test_a_mask_that_is_unclear_is_refused_in_one_line(running: Running, tmp_path: Path) -> None:
    folder = write_images(tmp_path, frames=3)
    two = scene.labels(0, objects=2) * np.uint8(100)
    Image.fromarray(cv2.GaussianBlur(two, (0, 0), 1.5)).save(folder / "mask.png")
    done = run(command(folder, tmp_path / "out", "--url", running.url))
    assert done.returncode == 1
    assert "the edges are soft; save it without anti-aliasing" in done.stderr
    assert not (tmp_path / "out" / "masks").exists()


def write_video(folder: Path, name: str, data: bytes) -> list[str]:
    """Write a video and its mask; return the beginning of the command."""
    (folder / name).write_bytes(data)
    (folder / "mask.png").write_bytes(scene.mask())
    return ["track", str(folder / name), "--mask", str(folder / "mask.png")]


def test_a_video_file_against_a_remote_service(running: Running, tmp_path: Path) -> None:
    words = write_video(tmp_path, "video.mp4", scene.video(range(10)))
    out = tmp_path / "out"
    done = run([*words, "-o", str(out), "--url", running.url])
    assert done.returncode == 0, done.stderr
    assert set(found_masks(out)) == {f"{number:05d}" for number in range(10)}


def test_of_a_video_that_is_cut_off_the_beginning_is_tracked(
    running: Running, tmp_path: Path
) -> None:
    whole = scene.video(range(12), kind="webm")
    words = write_video(tmp_path, "video.webm", whole[: int(0.8 * len(whole))])
    out = tmp_path / "out"
    done = run([*words, "-o", str(out), "--overlay", "--url", running.url])
    count = len(found_masks(out))
    assert 5 < count < 12
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"tamvt track: picture {count} of the video cannot be decoded: the file is cut off; "
        "the frames before it are tracked"
    )
    assert open_source(out / "overlay.mp4").count == count


def test_an_overlay_lasts_as_long_as_its_video(running: Running, tmp_path: Path) -> None:
    times_ms = [0, 100, 200, 217, 234, 1234]
    words = write_video(tmp_path, "12:30.webm", scene.video(range(6), kind="webm", ms=times_ms))
    out = tmp_path / "run:1 #2"
    done = run([*words, "-o", str(out), "--overlay", "--url", running.url])
    assert done.returncode == 0, done.stderr
    shown = [frame.time_s for frame in open_source(out / "overlay.mp4").frames()]
    assert [round(time_s * 1000) for time_s in shown] == times_ms


def test_the_reference_may_be_a_later_frame(running: Running, folder: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(scene.encode(scene.labels(15)[..., None].repeat(3, axis=2), ".png"))
    words = ["track", str(folder / "frames"), "--mask", str(mask)]
    out = tmp_path / "out"
    done = run([*words, "-o", str(out), "--reference-frame", "15", "--url", running.url])
    assert done.returncode == 0, done.stderr
    masks = found_masks(out)
    assert set(masks) == {f"img_{number}" for number in range(15, FRAMES)}
    assert (masks["img_20"] == scene.labels(20)).mean() > 0.97


def test_after_ctrl_c_the_same_command_goes_on(settings: dict[str, str], tmp_path: Path) -> None:
    folder = write_images(tmp_path, frames=LONG)
    whole, out = tmp_path / "whole", tmp_path / "out"
    assert run(command(folder, whole), settings).returncode == 0
    status, said = interrupt_after(command(folder, out), out, settings)
    assert (status, said.splitlines()[-1]) == (130, "tamvt track: stopped")
    stopped_at = state_of(out).next_frame
    assert stopped_at < LONG
    done = run(command(folder, out), settings)
    assert done.returncode == 0, done.stderr
    assert f"going on at frame {stopped_at}" in done.stderr
    found, expected = found_masks(out), found_masks(whole)
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_an_expired_session_is_tracked_again_from_the_start(
    running: Running, folder: Path, tmp_path: Path
) -> None:
    words = command(folder, tmp_path / "out", "--url", running.url)
    assert run(words).returncode == 0
    stop_at(tmp_path / "out", folder, next_frame=9)
    (tmp_path / "out" / "masks" / "img_20.png").unlink()
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert "the earlier session has expired: starting again at the first frame" in done.stderr
    assert_follows_the_square(tmp_path / "out", frames=FRAMES)


def test_frames_whose_answer_was_lost_are_sent_again(
    running: Running, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = command(folder, out, "--url", running.url)
    assert run(words).returncode == 0
    # As if the service had committed twelve frames, and the command heard of none.
    with Client(running.url) as client:
        session = client.start(scene.jpeg(0), scene.mask())
        images = [scene.jpeg(number) for number in range(1, 13)]
        client.append(session.session_id, images, first_frame=1)
    stop_at(out, folder, next_frame=1, session_id=session.session_id)
    done = run(words)
    assert done.returncode == 0, done.stderr
    assert_follows_the_square(out, frames=FRAMES)


def test_another_mask_does_not_touch_the_masks_of_the_first(
    tracked: tuple[Path, Run], folder: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "other.png").write_bytes(scene.mask(objects=2))
    words = command(folder, tracked[0])
    words[words.index("--mask") + 1] = str(tmp_path / "other.png")
    refused = run(words, settings)
    assert refused.returncode == 1
    assert "holds the masks of another video, mask or option" in refused.stderr


def test_masks_that_are_not_ours_are_never_replaced(
    folder: Path, settings: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "img_0.png").write_bytes(b"drawn by hand")
    refused = run(command(folder, tmp_path), settings)
    assert refused.returncode == 1
    assert (tmp_path / "masks" / "img_0.png").read_bytes() == b"drawn by hand"


def test_restart_tracks_again(running: Running, folder: Path, tmp_path: Path) -> None:
    words = command(folder, tmp_path / "out", "--url", running.url)
    assert run(words).returncode == 0
    first = json.loads((tmp_path / "out" / ".tamvt" / "track.json").read_text())["session_id"]
    done = run([*words, "--restart"])
    assert done.returncode == 0, done.stderr
    assert state_of(tmp_path / "out").session_id != first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--mask": "no-mask.png"}, "No such file or directory: no-mask.png"),
        ({"video": "no-video"}, "there is no video or folder 'no-video'"),
        ({"--url": "http://127.0.0.1:9"}, "POST /v1/sessions: "),
        ({"--reference-frame": "99"}, "the video has no frame 99"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    change: dict[str, str], said: str, folder: Path, running: Running, tmp_path: Path
) -> None:
    given = {
        "video": str(folder / "frames"),
        "--mask": str(folder / "mask.png"),
        "--url": running.url,
        **change,
    }
    options = [word for name, value in given.items() if name != "video" for word in (name, value)]
    words = ["track", given["video"], *options]
    failed = run([*words, "-o", str(tmp_path / "out")])
    assert failed.returncode == 1
    assert failed.stderr.startswith("tamvt track: ")
    assert said in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_what_the_service_refuses_is_said_in_one_line(
    running: Running, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "small.png").write_bytes(scene.encode(scene.picture(0)[:50] * 0 + 1, ".png"))
    words = command(folder, tmp_path / "out", "--url", running.url)
    words[words.index("--mask") + 1] = str(tmp_path / "small.png")
    failed = run(words)
    assert failed.returncode == 1
    assert "the mask is 128x50, but the frame is 128x96" in failed.stderr
    assert failed.stderr.count("\n") == 1


def test_a_service_that_cannot_start_is_said_in_one_line(folder: Path, tmp_path: Path) -> None:
    failed = run(command(folder, tmp_path / "out"), {"TAMVT_WEIGHTS": str(tmp_path)})
    assert failed.returncode == 1
    assert "the service did not start: no model" in failed.stderr
    assert failed.stderr.count("\n") == 1
