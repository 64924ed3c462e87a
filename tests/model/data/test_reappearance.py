"""Made-up clips of objects that leave and return."""

from pathlib import Path

import numpy as np
import pytest

from model.core.image_headers import ImageLimits
from model.core.pixels import read_image
from model.data.errors import DataError
from model.data.reappearance import (
    AWAY,
    FRAMES,
    SIZE,
    ReappearanceSources,
    make_reappearance,
    make_reappearances,
    open_sources,
)
from model.data.static import StillPaths
from tests.model.data.drawings import HEIGHT, WIDTH, write_jpeg, write_palette


@pytest.fixture(scope="module")
def sources(drawn_data: Path) -> ReappearanceSources:
    return open_sources(0, drawn_data)


def test_the_halves_share_nothing(drawn_data: Path) -> None:
    one, other = open_sources(0, drawn_data), open_sources(1, drawn_data)
    assert {still.image for still in one.stills}.isdisjoint(still.image for still in other.stills)
    assert {video.name for video in one.videos}.isdisjoint(video.name for video in other.videos)


def test_a_clip_is_a_function_of_its_seed(sources: ReappearanceSources) -> None:
    first, again = (list(make_reappearances(sources, seed=3, count=2)) for _ in range(2))
    for one, other in zip(first, again, strict=True):
        assert one.images == other.images
        assert (one.masks == other.masks).all()
    assert first[0].images != first[1].images


@pytest.mark.parametrize("number", [0, 1])
def test_the_object_is_away_for_a_while_and_comes_back(
    sources: ReappearanceSources, number: int
) -> None:
    sample = list(make_reappearances(sources, seed=5, count=2))[number]
    away = np.flatnonzero(sample.away)
    assert sample.kind == ("leaves", "covered")[number]
    assert FRAMES[0] <= len(sample.images) <= FRAMES[1]
    assert len(away) >= AWAY[0]
    assert sample.masks[0].any()
    assert sample.masks[-1].any()
    assert 0 < away[0] < away[-1] < len(sample.images) - 1


def test_frames_and_masks_are_of_one_size(sources: ReappearanceSources) -> None:
    sample = next(make_reappearances(sources, seed=0, count=1))
    assert sample.masks.shape == (len(sample.images), *SIZE)
    assert read_image(sample.images[0], ImageLimits()).shape == (*SIZE, 3)


def test_where_nothing_can_be_cut_out_it_says_so(tmp_path: Path) -> None:
    write_jpeg(tmp_path / "0.jpg", seed=0)
    write_palette(tmp_path / "0.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    empty = ReappearanceSources((StillPaths(tmp_path / "0.jpg", tmp_path / "0.png"),), ())
    with pytest.raises(DataError, match="can be made"):
        make_reappearance(empty, np.random.default_rng(0), kind="leaves", name="none")


def test_without_data_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.txt"):
        open_sources(0, tmp_path)
