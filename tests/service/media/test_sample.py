"""The built-in sample: our outline on scikit-image's photograph, moved and bent."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.j_and_f import jaccard
from model.core.palette import read_label_map
from model.core.pixels import ImageLimits
from service.errors import Misconfigured
from service.media.images import decode_image
from service.media.sample import (
    CUP_ID,
    SampleVideo,
    draw_sample,
    draw_silhouette,
    find_sample_video,
    write_sample,
)
from service.media.video import open_source

Drawn = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def drawn() -> Drawn:
    return list(draw_sample())


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SampleVideo:
    return write_sample(tmp_path_factory.mktemp("sample"))


def write_video_folder(data: Path, name: str) -> None:
    for part in ("frames", "masks"):
        (data / "video" / name / part).mkdir(parents=True)


def test_the_outline_is_where_the_cup_is() -> None:
    outline = draw_silhouette(400, 600) >= 0.5
    assert outline[210, 278], "inside the cup"
    assert outline[300, 360], "on the spoon"
    assert not outline[:, :70].any(), "left of the saucer"
    assert not outline[:10].any(), "above the cup"


def test_the_sample_has_sixty_frames_of_one_size(drawn: Drawn) -> None:
    assert len(drawn) == 60
    assert {(rgb.shape, labels.shape) for rgb, labels in drawn} == {((360, 640, 3), (360, 640))}


def test_the_cup_is_whole_in_every_frame(drawn: Drawn) -> None:
    for _, labels in drawn:
        assert set(np.unique(labels)) == {0, CUP_ID}
        assert cv2.connectedComponents(labels)[0] == 2, "in one piece"
        assert labels[1:-1, 1:-1].sum() == labels.sum(), "inside the frame"


def test_the_cup_moves_but_never_jumps(drawn: Drawn) -> None:
    masks = [labels > 0 for _, labels in drawn]
    assert min(jaccard(*pair) for pair in pairwise(masks)) > 0.6
    assert jaccard(masks[0], masks[30]) == 0


def test_the_truth_moves_with_the_picture(drawn: Drawn) -> None:
    # The saucer and the cup are brighter than the sky, and far redder than blue.
    for rgb, labels in drawn[::10]:
        cup, sky = rgb[labels > 0].mean(axis=0), rgb[labels == 0].mean(axis=0)
        assert cup[0] - cup[2] > 50 > abs(sky[0] - sky[2])


def test_the_same_sample_is_drawn_again(drawn: Drawn) -> None:
    first, labels = next(draw_sample())
    assert (first == drawn[0][0]).all()
    assert (labels == drawn[0][1]).all()


def test_the_written_sample_is_the_drawn_one(written: SampleVideo, drawn: Drawn) -> None:
    frames = list(open_source(written.video).frames())
    assert [frame.name for frame in frames] == [f"{number:05d}" for number in range(60)]
    off = decode_image(frames[7].image).astype(int) - drawn[7][0]
    assert np.abs(off).mean() < 3
    assert written.truth is not None
    labels = read_label_map((written.truth / "00007.png").read_bytes(), ImageLimits())
    assert (labels == drawn[7][1]).all()


def test_a_video_of_the_data_is_found_by_name(tmp_path: Path) -> None:
    write_video_folder(tmp_path, "rhino")
    clip = find_sample_video(tmp_path, name="rhino")
    assert clip is not None
    assert clip.video == tmp_path / "video" / "rhino" / "frames"
    assert clip.mask == tmp_path / "video" / "rhino" / "masks" / "00000.png"


def test_without_data_the_built_in_sample_is_taken(tmp_path: Path) -> None:
    assert find_sample_video(tmp_path, name=None) is None


def test_the_built_in_sample_can_be_asked_for(tmp_path: Path) -> None:
    write_video_folder(tmp_path, "dog-agility")
    assert find_sample_video(tmp_path, name="coffee") is None
    assert find_sample_video(tmp_path, name=None) is not None


def test_a_video_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="'unicorn'"):
        find_sample_video(tmp_path, name="unicorn")
