"""Clips of real video: which frames, which crop, and what is refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data.errors import DataError
from model.data.video import cut_sample, draw_indices, is_slow, open_video, training_names
from tests.model.data.drawings import HEIGHT, WIDTH, write_video


def many_indices(length: int, *, frames: int, max_step: int) -> list[list[int]]:
    rng = np.random.default_rng(0)
    return [
        draw_indices(length, rng, frames=frames, max_step=max_step).tolist() for _ in range(200)
    ]


def test_frames_are_in_order_and_within_the_video() -> None:
    for indices in many_indices(30, frames=5, max_step=4):
        assert len(set(np.sign(np.diff(indices)))) == 1
        assert 0 <= min(indices) <= max(indices) < 30


def test_frames_are_equally_far_apart_but_for_one_gap_in_some_clips() -> None:
    gaps = [np.diff(indices) for indices in many_indices(60, frames=6, max_step=3)]
    uneven = [gap for gap in gaps if len(set(gap)) > 1]
    assert 10 <= len(uneven) <= 70
    for gap in uneven:
        sizes = np.sort(np.abs(gap))
        assert len(set(sizes[:-1])) == 1
        assert sizes[-1] <= 9 * sizes[0]


def test_steps_of_one_leave_no_gap() -> None:
    for indices in many_indices(60, frames=6, max_step=1):
        assert set(np.abs(np.diff(indices))) == {1}


def test_every_step_is_drawn_forwards_and_backwards() -> None:
    drawn = many_indices(60, frames=5, max_step=3)
    steps = {int(np.median(np.diff(indices))) for indices in drawn}
    assert steps == {-3, -2, -1, 1, 2, 3}


def test_first_and_last_frame_are_drawn() -> None:
    drawn = {index for indices in many_indices(12, frames=4, max_step=2) for index in indices}
    assert drawn == set(range(12))


def test_a_short_video_is_played_forth_and_back() -> None:
    forwards = [indices for indices in many_indices(3, frames=6, max_step=5) if indices[0] == 0]
    assert [0, 1, 2, 1, 0, 1] in forwards


def test_a_single_frame_is_repeated() -> None:
    assert many_indices(1, frames=3, max_step=5)[0] == [0, 0, 0]


def test_frames_and_masks_keep_together(data: Path, tmp_path: Path) -> None:
    """Frames painted by their masks still match them after crop, flip and colors."""
    write_video(tmp_path, "painted", length=8)
    for path in sorted((tmp_path / "painted" / "masks").iterdir()):
        mask = np.array(Image.open(path))
        frame = np.where(mask[..., None], 230, 20).astype(np.uint8).repeat(3, axis=2)
        frame_path = tmp_path / "painted" / "frames" / f"{path.stem}.jpg"
        Image.fromarray(frame).save(frame_path, quality=95)
    video, rng = open_video(tmp_path, "painted"), np.random.default_rng(2)
    cuts = [cut_sample(video, rng, size=64, frames=4, max_step=2) for _ in range(20)]
    agreements = []
    for frames, masks in filter(None, cuts):
        bright = frames.mean(axis=-1) > (frames.max() / 2 + frames.min() / 2)
        agreements.append((bright == (masks == 1)).mean())
    assert len(agreements) >= 10
    assert min(agreements) > 0.95


def test_a_first_frame_without_the_object_gives_no_clip(tmp_path: Path) -> None:
    write_video(tmp_path, "empty", length=4)
    for path in (tmp_path / "empty" / "masks").iterdir():
        Image.fromarray(np.zeros((HEIGHT, WIDTH), bool)).save(path)
    video = open_video(tmp_path, "empty")
    assert cut_sample(video, np.random.default_rng(0), size=32, frames=3, max_step=1) is None


def test_a_clip_that_may_be_empty_shows_any_place(tmp_path: Path) -> None:
    write_video(tmp_path, "empty", length=4)
    for path in (tmp_path / "empty" / "masks").iterdir():
        Image.fromarray(np.zeros((HEIGHT, WIDTH), bool)).save(path)
    rng = np.random.default_rng(0)
    cut = cut_sample(open_video(tmp_path, "empty"), rng, size=32, frames=3, max_step=1, empty=True)
    assert cut is not None
    assert cut[0].shape == (3, 32, 32, 3)
    assert not cut[1].any()


def write_sliding(root: Path, name: str, *, step: int) -> None:
    """A video whose square of 30 pixels moves by `step` pixels a frame."""
    write_video(root, name, length=9)
    for index, path in enumerate(sorted((root / name / "masks").iterdir())):
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[20:50, 2 + step * index : 32 + step * index] = True
        Image.fromarray(mask).save(path)


def test_a_video_in_which_little_moves_is_slow(tmp_path: Path) -> None:
    write_sliding(tmp_path, "creeping", step=0)
    write_sliding(tmp_path, "running", step=6)
    assert is_slow(open_video(tmp_path, "creeping"))
    assert not is_slow(open_video(tmp_path, "running"))


def test_the_training_videos_are_those_of_the_list(data: Path) -> None:
    assert training_names(data / "video", None) == ("walk", "run")


def test_a_missing_list_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt"):
        training_names(tmp_path, None)


def test_a_missing_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone/frames"):
        open_video(tmp_path, "gone")


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write_video(tmp_path, "walk", length=3)
    (tmp_path / "walk" / "masks" / "00001.png").unlink()
    with pytest.raises(DataError, match=r"1 masks of walk are missing, first .*00001\.png"):
        open_video(tmp_path, "walk")
