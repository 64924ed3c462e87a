"""Painted masks, the contact sheet and the overlay video."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.media.overlay import (
    GAP,
    TILE_WIDTH,
    contact_sheet,
    paint,
    space_evenly,
    write_overlay,
)
from service.media.video import open_source


def gray(*, height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 100, np.uint8)


def labels_with(object_id: int) -> NDArray[np.uint8]:
    labels = np.zeros((60, 80), np.uint8)
    labels[20:40, 20:50] = object_id
    return labels


def test_an_object_is_tinted_in_its_color_of_davis() -> None:
    painted = paint(gray(), labels_with(2))
    red, green, blue = painted[30, 35].tolist()
    assert green > 150 > red == blue


def test_what_is_far_from_every_object_stays_as_it_is() -> None:
    painted = paint(gray(), labels_with(1))
    assert (painted[:15] == 100).all()
    assert (painted[:, 60:] == 100).all()


def test_the_outline_shows_on_an_object_of_the_same_color() -> None:
    frame = gray()
    frame[20:40, 20:50] = (255, 0, 0)
    painted = paint(frame, labels_with(1))
    edge, inside = painted[20, 35].astype(int), painted[30, 35].astype(int)
    assert np.abs(edge - inside).max() > 100


def test_a_frame_without_objects_is_a_copy() -> None:
    frame = gray()
    painted = paint(frame, np.zeros((60, 80), np.uint8))
    assert painted is not frame
    assert (painted == frame).all()


def test_the_frame_itself_is_never_painted() -> None:
    frame = gray()
    paint(frame, labels_with(1))
    assert (frame == 100).all()


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (5, 4, 2), (12, 4, 3)]
)
def test_the_sheet_has_rows_of_four(count: int, columns: int, rows: int) -> None:
    sheet = contact_sheet([(number, gray()) for number in range(count)])
    tile_height = TILE_WIDTH * 60 // 80 + 26
    assert sheet.shape == (
        GAP + rows * (tile_height + GAP),
        GAP + columns * (TILE_WIDTH + GAP),
        3,
    )


def test_every_frame_of_the_sheet_has_its_number() -> None:
    one, two = (contact_sheet([(number, gray())]) for number in (1, 22))
    assert (one != two).any()
    assert (one[:300] == two[:300]).all()


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])


def test_chosen_frames_are_even_and_include_both_ends() -> None:
    assert space_evenly(60, most=12) == (0, 5, 11, 16, 21, 27, 32, 38, 43, 48, 54, 59)
    assert space_evenly(3, most=12) == (0, 1, 2)
    assert space_evenly(1, most=12) == (0,)


def test_the_overlay_video_has_every_frame(tmp_path: Path) -> None:
    frames = ((number / 24, paint(gray(), labels_with(1))) for number in range(9))
    assert write_overlay(tmp_path / "overlay.mp4", frames) == 9
    assert open_source(tmp_path / "overlay.mp4").count == 9


def test_an_unfinished_overlay_does_not_replace_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "overlay.mp4"
    path.write_bytes(b"the last one")

    def frames() -> Iterator[tuple[float, NDArray[np.uint8]]]:
        yield 0.0, gray()
        raise InterruptedError

    with pytest.raises(InterruptedError):
        write_overlay(path, frames())
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.mp4"]
    assert path.read_bytes() == b"the last one"
