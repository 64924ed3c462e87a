"""The yardstick's clips: always the same, hard in the way they say, with every object at first."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.core.image_headers import ImageLimits
from model.core.pixels import read_image
from model.data.errors import DataError
from model.data.reappearance import SIZE
from model.data.yardstick import FRAMES, HardClip, Stock, make_clips, open_stock


@pytest.fixture(scope="module")
def stock(data: Path) -> Stock:
    return open_stock(data)


def first_of(stock: Stock, name: str) -> HardClip:
    return next(iter(make_clips(stock, name)))


def brightness(clip: HardClip) -> float:
    pictures = [read_image(each, ImageLimits()) for each in clip.images]
    return float(np.mean([picture.mean() for picture in pictures]))


@pytest.mark.parametrize("name", ["twins", "thin", "tiny", "returning", "dark", "cut", "held-out"])
def test_a_clip_is_a_function_of_its_set_and_number(stock: Stock, name: str) -> None:
    one, again = first_of(stock, name), first_of(stock, name)
    assert one.images == again.images
    assert (one.labels == again.labels).all()
    assert one.name.startswith(name)


@pytest.mark.parametrize("name", ["twins", "thin", "tiny", "dark", "cut", "held-out"])
def test_the_first_frame_shows_every_object(stock: Stock, name: str) -> None:
    for clip in islice(make_clips(stock, name), 3):
        assert clip.labels.shape[1:] == SIZE
        assert len(clip.images) == len(clip.labels)
        shown = np.unique(clip.labels[0]).tolist()
        assert shown == list(range(int(clip.labels.max()) + 1))
        assert len(shown) > 1


def test_twins_cross_and_part(stock: Stock) -> None:
    clip = first_of(stock, "twins")
    columns = [
        [float(np.nonzero(frame == label)[1].mean()) for label in (1, 2)]
        for frame in (clip.labels[0], clip.labels[-1])
    ]
    assert (columns[0][0] < columns[0][1]) != (columns[1][0] < columns[1][1])
    areas = [(frame == 1).sum() for frame in clip.labels]
    assert min(areas) < 0.5 * areas[0]  # the other one passes before it


def test_ten_objects_are_many(stock: Stock) -> None:
    clip = first_of(stock, "many")
    assert len(clip.images) == FRAMES
    assert int(clip.labels[0].max()) == 10


def test_what_is_thin_is_a_few_pixels_wide(stock: Stock) -> None:
    mask = (first_of(stock, "thin").labels[0] > 0).astype(np.uint8)
    assert mask.sum() > 100
    assert not cv2.erode(mask, np.ones((7, 7), np.uint8)).any()


def test_what_is_tiny_is_12_pixels_high(stock: Stock) -> None:
    rows = np.nonzero(first_of(stock, "tiny").labels[0])[0]
    assert 8 <= rows.max() - rows.min() + 1 <= 16


def test_what_is_dark_is_the_same_video_at_15_percent(stock: Stock) -> None:
    dark, cut = first_of(stock, "dark"), first_of(stock, "cut")
    assert dark.name == "dark-kept"
    assert brightness(dark) < 0.25 * brightness(cut)


def test_an_unknown_set_is_named(stock: Stock) -> None:
    with pytest.raises(DataError, match=r"no set 'easy': the yardstick has twins, returning"):
        next(iter(make_clips(stock, "easy")))


def test_missing_data_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dev\.txt"):
        open_stock(tmp_path)
