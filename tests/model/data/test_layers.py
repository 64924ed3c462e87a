"""Layers: what covers what, and masks that stay on their object."""

import numpy as np
import pytest

from model.data.layers import (
    Cutout,
    Layer,
    Texture,
    cut_out,
    find_first_mask,
    join_alpha,
    render,
    render_over,
    soften,
)
from tests.model.data.drawings import plain, square

SIZE = 64
STILL_PATH = np.tile(np.eye(3), (4, 1, 1))


def layer(item: Cutout, *, target: bool) -> Layer:
    surface = join_alpha(item.image, soften(item.mask))
    mask = item.mask if target else None
    return Layer(surface, mask, STILL_PATH, item.center, item.box)


def backdrop(value: int) -> Layer:
    return Layer(plain(value), None, STILL_PATH, np.zeros(2), (0, 0, SIZE, SIZE))


def patch(value: int, left: int) -> Cutout:
    return cut_out(plain(value), square(left=left, top=10, side=20))


def test_a_cutout_knows_its_measures() -> None:
    item = cut_out(plain(0), square(left=10, top=20, side=9), "dog")
    assert item.center == pytest.approx([14, 24])
    assert item.box == (10, 20, 9, 9)
    assert item.extent == 9
    assert item.radius == pytest.approx(4.5 * np.sqrt(2))
    assert item.kind == "dog"
    assert not item.cropped
    assert cut_out(plain(0), square(left=0, top=0, side=9)).cropped


def test_a_layer_covers_what_is_below() -> None:
    layers = [backdrop(50), layer(patch(100, 10), target=True), layer(patch(200, 20), target=False)]
    image, mask = render(layers, 0, size=SIZE)
    assert (image[20, 5], image[20, 14], image[20, 30]) == pytest.approx((50, 100, 200))
    assert mask[20, 14] == 1
    assert mask[20, 30] == mask[20, 5] == 0
    seen, whole = find_first_mask(layers, size=SIZE)
    assert 0 < seen.sum() < whole.sum()


def test_a_target_above_hides_nothing_of_its_mask() -> None:
    layers = [backdrop(50), layer(patch(200, 20), target=False), layer(patch(100, 10), target=True)]
    _, mask = render(layers, 0, size=SIZE)
    assert mask[20, 28] == 1


def test_the_parts_of_a_target_make_one_mask() -> None:
    layers = [backdrop(50), layer(patch(100, 5), target=True), layer(patch(120, 40), target=True)]
    _, mask = render(layers, 0, size=SIZE)
    seen, whole = find_first_mask(layers, size=SIZE)
    assert mask[20, 14] == mask[20, 50] == 1
    assert (seen == mask).all()
    assert (whole == mask).all()


def test_a_target_in_the_backdrop_has_a_mask_too() -> None:
    mask = square(left=10, top=10, side=20)
    scene = [Layer(plain(50), mask, STILL_PATH, np.zeros(2), (0, 0, SIZE, SIZE))]
    assert (render(scene, 0, size=SIZE)[1] == mask).all()
    assert (find_first_mask(scene, size=SIZE)[0] == mask).all()


def test_what_lies_outside_the_clip_is_not_drawn() -> None:
    away = STILL_PATH.copy()
    away[1:, 0, 2] = 100.0
    item = patch(200, 10)
    surface = join_alpha(item.image, soften(item.mask))
    moved = Layer(surface, item.mask, away, item.center, item.box)
    image, mask = render([backdrop(50), moved], 1, size=SIZE)
    assert (image == 50).all()
    assert not mask.any()


def test_a_surface_turns_into_another() -> None:
    item = patch(200, 10)
    alpha = soften(item.mask)
    texture = Texture(join_alpha(plain(100), alpha), np.array([0.0, 0.5, 1.0, 1.0]))
    changing = Layer(
        join_alpha(item.image, alpha), item.mask, STILL_PATH, item.center, item.box, texture=texture
    )
    levels = [int(render([backdrop(50), changing], i, size=SIZE)[0][20, 20, 0]) for i in range(3)]
    assert levels == pytest.approx([200, 150, 100], abs=1)


def test_layers_over_a_frame_leave_the_frame_itself_alone() -> None:
    frame, seen = plain(50), square(left=10, top=10, side=40)
    image, mask = render_over(frame, seen, [layer(patch(200, 20), target=False)], 0)
    assert (frame == 50).all()
    assert seen[20, 30] == 1
    assert image[20, 30, 0] == 200
    assert mask[20, 30] == 0
    assert mask[45, 45] == 1
