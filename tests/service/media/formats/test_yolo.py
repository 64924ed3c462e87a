"""YOLO's outlines, read again: as masks of a video, and as the prompt of a frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from model.core.image_headers import ImageLimits
from model.core.masks import MaskError
from model.core.palette import read_label_map
from service.commands.track_job.export import read_prompt
from service.media.formats import yolo
from service.media.formats.annotated import AnnotatedFrame, AnnotatedObject, AnnotatedVideo
from service.media.formats.registry import FORMATS, read_annotations, write_folder
from service.media.video import open_source
from tests.support import scene

SIZE = HEIGHT, WIDTH = 40, 50
LIMITS = ImageLimits()
TRIANGLE = "0.1 0.1 0.9 0.1 0.5 0.9"


def block(left: int, top: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, np.bool_)
    mask[top : top + 8, left : left + 12] = True
    return mask


def video(*frames: dict[int, NDArray[np.bool_]]) -> AnnotatedVideo:
    made = [
        AnnotatedFrame(
            number,
            f"shot {number}.jpg",
            SIZE,
            tuple(AnnotatedObject(object_id, mask) for object_id, mask in masks.items()),
            number / 30,
        )
        for number, masks in enumerate(frames)
    ]
    return AnnotatedVideo("walk", {3: "cup", 7: 'a "dog"'}, made, len(made))


def write(folder: Path, **lines: str) -> Path:
    (folder / "labels").mkdir(exist_ok=True)
    for stem, text in lines.items():
        (folder / "labels" / f"{stem}.txt").write_text(text)
    return folder


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    frames = [{3: block(number), 7: block(30, 2)} for number in range(12)]
    del frames[11][7]
    write_folder(tmp_path, FORMATS["yolo"].files(video(*frames)))
    for folder in (tmp_path, tmp_path / "labels"):
        read = read_annotations(folder, limits=LIMITS)
        assert read.labels == {1: "cup", 2: 'a "dog"'}
        # "shot 10" comes after "shot 9".
        assert [frame.image for frame in read.frames] == [f"shot {n}.jpg" for n in range(12)]
        for frame, masks in zip(read.frames, frames, strict=True):
            assert [each.object_id for each in frame.objects] == list(range(1, 1 + len(masks)))
            for each, mask in zip(frame.objects, masks.values(), strict=True):
                assert (each.mask == mask).all()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_an_outline_of_one_part_without_holes_is_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = np.zeros(SIZE, np.uint8)
    cv2.fillPoly(drawn, [random.integers(0, (WIDTH, HEIGHT), (5, 2), np.int32)], color=1)
    outlines, _ = cv2.findContours(drawn, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(SIZE, np.uint8)
    cv2.drawContours(mask, [max(outlines, key=len)], -1, 1, cv2.FILLED)
    points = (yolo.join_contours(mask.view(np.bool_)) + 0.5) / (WIDTH, HEIGHT)
    (found,) = yolo.fill_frame([yolo.LabelLine(0, points.round(6))], SIZE).objects
    assert (found.mask == mask.view(np.bool_)).all()


@pytest.mark.parametrize("sideways", [False, True])
def test_the_size_is_that_of_the_picture_in_the_folder_beside(
    tmp_path: Path, sideways: bool
) -> None:
    write(tmp_path, a=f"0 {TRIANGLE}")
    (tmp_path / "images").mkdir()
    exif = Image.Exif()
    exif[yolo.ORIENTATION] = 6 if sideways else 1
    Image.new("RGB", (60, 30)).save(tmp_path / "images" / "a.jpeg", exif=exif)
    (frame,) = read_annotations(tmp_path, limits=LIMITS).frames
    assert (frame.image, frame.size) == ("a.jpeg", (60, 30) if sideways else (30, 60))


@pytest.mark.parametrize(
    "names",
    [
        "names: [cat, 'big dog']",
        "names:\n  0: cat\n  1: big dog  # of two",
        "names:\n- cat\n- big dog",
    ],
)
def test_classes_have_the_names_of_the_data_set(tmp_path: Path, names: str) -> None:
    write(tmp_path, a=f"1 {TRIANGLE}\n0 {TRIANGLE}")
    (tmp_path / "data.yaml").write_text(f"path: .\nsize: [50, 40]\n{names}\nnc: 2\n")
    assert read_annotations(tmp_path, limits=LIMITS).labels == {1: "cat", 2: "big dog"}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("0 0.5 0.5 0.2 0.2", r"line 1 of a\.txt is a box"),
        (f"0 {TRIANGLE}\n0 0.1 0.1 0.2 0.2 0.3", r"line 2 of a\.txt has 5 numbers"),
        (f"0 {TRIANGLE} 0.93", "has 7 numbers"),
        ("0 0.1 0.1 90 0.1 0.5 0.9", "outside of the frame"),
        ("0 0.1 0.1 nan 0.1 0.5 0.9", "outside of the frame"),
        (f"254 {TRIANGLE}", "of class 254"),
        (f"-1 {TRIANGLE}", "of class -1"),
        (f"0 {TRIANGLE}\ncup {TRIANGLE}", r"line 2 of a\.txt is no outline"),
    ],
)
def test_what_is_no_outline_is_named(tmp_path: Path, lines: str, said: str) -> None:
    write(tmp_path, a=lines, b=f"0 {TRIANGLE}")
    with pytest.raises(MaskError, match=said):
        read_annotations(tmp_path, limits=LIMITS)


def test_two_objects_of_a_class_are_told_apart_in_one_frame_alone(tmp_path: Path) -> None:
    write(tmp_path, a=f"0 {TRIANGLE}\n0 {TRIANGLE}")
    (tmp_path / "data.yaml").write_text("size: [50, 40]\n")
    (frame,) = read_annotations(tmp_path, limits=LIMITS).frames
    assert [each.object_id for each in frame.objects] == [1, 2]
    write(tmp_path, b="")
    with pytest.raises(MaskError, match=r"a\.txt has two objects of one class"):
        read_annotations(tmp_path, limits=LIMITS)


def test_a_frame_whose_size_is_not_told_is_named(tmp_path: Path) -> None:
    with pytest.raises(MaskError, match=r"the frame of a\.txt is not told: put its picture"):
        read_annotations(write(tmp_path, a=f"0 {TRIANGLE}"), limits=LIMITS)
    with pytest.raises(MaskError, match="give the folder"):
        read_annotations(tmp_path / "labels" / "a.txt", limits=LIMITS)


def test_a_file_of_outlines_is_the_prompt_of_any_frame(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(scene.video(range(3)))
    points = (yolo.join_contours(scene.labels(2) == 1) + 0.5) / (scene.WIDTH, scene.HEIGHT)
    (tmp_path / "mask.txt").write_text(f"0 {' '.join(map(str, points.ravel()))}\n")
    source = open_source(tmp_path / "video.mp4")
    labels = read_label_map(read_prompt(tmp_path / "mask.txt", source, 2, LIMITS), LIMITS)
    assert (labels == scene.labels(2)).all()
