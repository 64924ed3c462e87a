"""Clicks, boxes and rough masks as a person might make them, and views of the stills."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.prompt_contract import ON_BACKGROUND, ON_OBJECT
from model.data.clicks import Click, jitter_box, place_click, roughen_mask
from model.data.pasted_views import draw_shape, paste
from model.data.prompt_samples import (
    PromptViews,
    digest_picture,
    draw_window,
    pick_part,
    split_stills,
)
from model.data.static import read_rgb, read_still
from tests.model.data.drawings import square

SETS = ("ecssd", "coco")


def two_squares() -> NDArray[np.uint8]:
    """A large and a small square."""
    return square(left=4, top=4, side=21) | square(left=40, top=40, side=11)


def test_the_first_click_is_at_the_point_furthest_inside() -> None:
    nothing = np.zeros((64, 64), np.uint8)
    assert place_click(nothing, two_squares()) == Click(14, 14, ON_OBJECT)
    # The picture's rim is outside of the object too.
    assert place_click(nothing, np.ones((64, 64), np.uint8)) in [
        Click(x, y, ON_OBJECT) for x in (31, 32) for y in (31, 32)
    ]


def test_later_clicks_are_where_the_mask_is_most_wrong() -> None:
    truth = two_squares()
    assert place_click(square(left=4, top=4, side=21), truth) == Click(45, 45, ON_OBJECT)
    too_much = truth | square(left=30, top=4, side=17)
    assert place_click(too_much, truth) == Click(38, 12, ON_BACKGROUND)
    assert place_click(truth, truth) is None


def test_a_drawn_click_lies_well_inside() -> None:
    rng, truth = np.random.default_rng(0), square(left=10, top=10, side=41)
    clicks = [place_click(np.zeros_like(truth), truth, rng) for _ in range(50)]
    places = np.array([(click.x, click.y) for click in clicks if click is not None])
    assert len(places) == 50
    assert (np.abs(places - 30) <= 11).all()
    assert places.std() > 3


def test_a_box_is_off_mostly_outwards() -> None:
    rng, truth = np.random.default_rng(0), square(left=20, top=20, side=20)
    boxes = np.array([jitter_box(truth, rng, amount=0.1) for _ in range(200)])
    off = (boxes - [20, 20, 39, 39]) * [-1, -1, 1, 1] / 20
    assert off.min() >= -0.025
    assert 0.09 < off.max() <= 0.1
    edge = jitter_box(square(left=0, top=0, side=64), rng, amount=0.1)
    assert edge.min() >= 0
    assert edge.max() <= 63


def test_rough_masks_are_wrong_and_still_of_the_object() -> None:
    truth = square(left=15, top=15, side=30)
    rough = [roughen_mask(truth, np.random.default_rng(seed)) for seed in range(40)]
    overlaps = [(each & truth).sum() / (each | truth).sum() for each in rough]
    assert 0.6 < np.mean(overlaps) < 0.95
    assert {each.dtype for each in rough} == {np.dtype(np.uint8)}
    assert {int(each.max()) for each in rough} <= {0, 1}


def test_held_out_pictures_are_never_trained_on(data: Path) -> None:
    split = split_stills(data, SETS)
    for name in SETS:
        kept, held = (
            {still.image for still in part[name]} for part in (split.training, split.held_out)
        )
        assert held
        assert not kept & held
    assert split_stills(data, SETS) == split


def test_a_copy_of_a_held_out_picture_is_held_out(data: Path, tmp_path: Path) -> None:
    split = split_stills(data, SETS)
    original = split.held_out["ecssd"][0]
    folder = tmp_path / "static" / "coco"
    for name in SETS:
        (tmp_path / "static" / name).mkdir(parents=True)
        for still in (*split.training[name], *split.held_out[name]):
            for path in (still.image, still.mask):
                (tmp_path / "static" / name / path.name).write_bytes(path.read_bytes())
    for number in range(20):  # more than are held out
        image = read_rgb(original.image)[..., ::-1]
        cv2.imwrite(str(folder / f"copy{number}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        (folder / f"copy{number}.png").write_bytes(original.mask.read_bytes())
    assert digest_picture(folder / "copy0.jpg") == digest_picture(original.image)
    copies = [each for each in split_stills(tmp_path, SETS).training["coco"] if "copy" in str(each)]
    assert copies == []


def test_a_view_shows_an_object_in_a_square(data: Path) -> None:
    split = split_stills(data, SETS)
    views = PromptViews({**split.training, **split.held_out}, side=64)
    rng = np.random.default_rng(3)
    for _ in range(20):
        view = views.draw(rng)
        assert view.image.shape == (64, 64, 3)
        assert view.target.shape == (64, 64)
        assert set(np.unique(view.target)) == {0, 1}
        assert view.source.removeprefix("pasted ").split("/")[0] in SETS


def test_a_pasted_thing_is_where_its_mask_is(data: Path) -> None:
    backdrop, bright = np.full((64, 64, 3), 20, np.uint8), np.full((40, 40, 3), 220, np.uint8)
    rng = np.random.default_rng(0)
    for seed in range(20):
        cutting = draw_shape(bright, np.random.default_rng(seed))
        image, mask = paste(backdrop, cutting, rng)
        assert 0 < mask.sum() < mask.size
        away = cv2.dilate(mask, np.ones((11, 11), np.uint8)) == 0
        assert (image[away] == 20).all()
        inside = cv2.erode(mask, np.ones((5, 5), np.uint8)) == 1
        assert (image[inside].max(axis=1) > 60).all()


def test_one_part_is_meant_of_a_mask_that_holds_several() -> None:
    large, small = square(left=4, top=4, side=21), square(left=40, top=40, side=11)
    speck = square(left=60, top=2, side=2)
    several = large | small | speck
    assert np.array_equal(pick_part(several), large)
    drawn = [pick_part(several, np.random.default_rng(seed)) for seed in range(20)]
    assert {int(each.sum()) for each in drawn} == {int(large.sum()), int(small.sum())}
    assert np.array_equal(pick_part(large | speck), large | speck)


def test_views_are_pasted_as_often_as_asked(data: Path) -> None:
    stills = split_stills(data, SETS).held_out
    rng = np.random.default_rng(0)
    for share in (0.0, 1.0):
        views = PromptViews(stills, side=64, pasted=share)
        sources = [views.draw(rng).source for _ in range(8)]
        assert [source.startswith("pasted") for source in sources] == [share == 1.0] * 8


def test_a_window_lies_in_the_picture(data: Path) -> None:
    labels = read_still(split_stills(data, SETS).held_out["coco"][0]).labels
    mask = (labels == 1).astype(np.uint8)
    height, width = mask.shape
    rng = np.random.default_rng(0)
    windows = np.array([draw_window(mask, rng) for _ in range(100)])
    assert windows.min() >= -1e-6
    assert (windows[:, 2] <= width + 1e-6).all()
    assert (windows[:, 3] <= height + 1e-6).all()
    assert (windows[:, 2:] - windows[:, :2]).min() >= min(48, height, width) - 1e-6


@pytest.mark.parametrize("empty", [True, False])
def test_a_rough_mask_of_little_is_no_error(empty: bool) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[3, 3] = 0 if empty else 1
    for seed in range(8):
        assert roughen_mask(mask, np.random.default_rng(seed)).shape == (8, 8)
