"""Holes: filled with what is around, and with texture from elsewhere."""

import numpy as np

from model.data.fill import fill_hole, spread_colors
from tests.model.data.drawings import draw_labels, draw_picture, plain, square

SIZE = 64


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_filled_hole_looks_like_its_surroundings() -> None:
    image, hole = plain(90), square(left=20, top=20, side=24)
    image[hole == 1] = 255
    assert np.abs(spread_colors(image, hole) - 90).max() <= 1.0
    assert np.abs(fill_hole(image, hole, rng())[hole == 1].astype(int) - 90).max() <= 1


def test_filling_leaves_the_rest_alone() -> None:
    image, hole = draw_picture(0), (draw_labels() == 1).astype(np.uint8)
    far = np.ones(hole.shape, bool)
    far[16:54, 16:48] = False
    assert (fill_hole(image, hole, rng())[far] == image[far]).all()


def test_a_hole_in_a_texture_is_filled_with_texture() -> None:
    image = rng().integers(60, 200, (96, 96, 3), dtype=np.uint8)
    hole = square(left=10, top=10, side=20, size=96)
    filled = fill_hole(image, hole, rng())[hole == 1]
    assert filled.std() > 0.6 * image.std()


def test_a_picture_that_is_all_hole_is_filled_with_something() -> None:
    filled = fill_hole(plain(9), np.ones((SIZE, SIZE), np.uint8), rng())
    assert filled.shape == (SIZE, SIZE, 3)
