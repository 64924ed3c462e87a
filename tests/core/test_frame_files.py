"""Which files of a folder are frames, and in which order."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from model.core.frame_files import (
    FRAME_SUFFIXES,
    FolderError,
    list_frames,
    read_frame_file,
    sort_naturally,
)
from model.core.image_headers import ImageLimits, Undecodable
from model.core.pixels import read_image
from tests.core.pictures import gradient

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[1] / "support" / "frame_names.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["of"]))
def test_frames_are_found_in_natural_order(case: dict[str, Any], tmp_path: Path) -> None:
    for name in reversed(case["names"]):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_frames(tmp_path).frames] == case["frames"]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    for name in ("0.jpg", "._0.jpg", "mask.png", "b.txt", "a.gif", "c.txt", "d.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "1.jpg").mkdir()
    os.mkfifo(tmp_path / "2.jpg")
    found = list_frames(tmp_path, mask=tmp_path / "mask.png")
    assert [path.name for path in found.frames] == ["0.jpg"]
    assert found.left_out == (
        "1 hidden file ('._0.jpg'), 1 folder ('1.jpg'), "
        "6 other files ('2.jpg', 'a.gif', 'b.txt', ...)"
    )


def test_a_mask_is_left_out_by_any_of_its_paths(tmp_path: Path) -> None:
    for name in ("0.jpg", "1.png"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "link").symlink_to(tmp_path / "1.png")
    shutil.copy(tmp_path / "1.png", tmp_path / "2.png")
    assert [p.name for p in list_frames(tmp_path, mask=tmp_path / "link").frames] == [
        "0.jpg",
        "2.png",
    ]


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    names = [os.fsdecode(b"prise_\xe9t\xe9_%d.jpg" % number) for number in (2, 10)]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in list_frames(tmp_path).frames] == names


def test_a_folder_without_frames_tells_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "movie.mov").write_bytes(b"")
    with pytest.raises(FolderError, match=r"holds no image \(1 other file \('movie.mov'\)\)"):
        list_frames(tmp_path).check()


def test_two_frames_of_one_stem_are_refused(tmp_path: Path) -> None:
    for suffix in ("jpg", "tif"):
        (tmp_path / f"a.{suffix}").write_bytes(b"")
    with pytest.raises(FolderError, match=r"2 images in .* are named 'a': one mask for all"):
        list_frames(tmp_path).check()


@pytest.mark.parametrize("suffix", sorted(FRAME_SUFFIXES - {".jfif", ".pbm", ".pgm"}))
def test_every_kind_of_frame_is_read(suffix: str, tmp_path: Path) -> None:
    rgb = gradient()
    cv2.imwrite(str(tmp_path / f"0{suffix}"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    data = read_frame_file(tmp_path / f"0{suffix}")
    seen = read_image(data, ImageLimits())
    assert np.abs(seen.astype(int) - rgb).mean() < (0.1 if suffix in {".bmp", ".tif"} else 8)


def test_what_the_service_reads_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes(b"half of a JPEG")
    assert read_frame_file(tmp_path / "0.jpg") == b"half of a JPEG"


def test_a_file_of_several_pictures_is_no_frame(tmp_path: Path) -> None:
    pages = [Image.fromarray(gradient(8, 8)) for _ in range(3)]
    pages[0].save(tmp_path / "0.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(Undecodable, match="holds 3 pictures"):
        read_frame_file(tmp_path / "0.tif")


def test_a_damaged_bitmap_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"BM no bitmap"):
        (tmp_path / "0.bmp").write_bytes(data)
        with pytest.raises(Undecodable, match="cannot be decoded"):
            read_frame_file(tmp_path / "0.bmp")


def test_the_order_does_not_hang_on_the_order_given() -> None:
    names = [f"v{number}_{part}" for number in range(12) for part in ("1.5", "1.25", "-3")]
    assert sort_naturally(names) == sort_naturally(reversed(names))
