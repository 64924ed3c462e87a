"""What moves: how large it is, where it lies, how it changes, and what hides it."""

import numpy as np
import pytest

from model.data.layers import cut_out, render_over
from model.data.motion import apply
from model.data.scene_objects import (
    Stage,
    draw_cutout,
    draw_mover,
    draw_occluder,
    draw_placement,
    draw_target_layers,
    fit_to_share,
    measure_scale,
    mirror_indices,
    retextured,
)
from tests.model.data.drawings import OneStill, draw_painted, draw_picture, plain, square

SIZE, FRAMES = 64, 9
STAGE = Stage(np.tile(np.eye(3), (FRAMES, 1, 1)), SIZE, speed=2.0)


def test_an_object_is_placed_at_the_share_asked_for() -> None:
    item = cut_out(plain(9), square(left=10, top=10, side=20))
    place = draw_placement(item, np.random.default_rng(0), size=SIZE, share=0.5)
    assert measure_scale(place) * item.extent == pytest.approx(0.5 * SIZE)
    assert (apply(place, item.center) > 0).all()
    assert (apply(place, item.center) < SIZE).all()


def test_what_is_to_be_small_is_kept_small() -> None:
    item = cut_out(draw_painted().image, draw_painted().labels, "person")
    small = fit_to_share(item, share=0.1, size=SIZE)
    assert small.extent == pytest.approx(2 * 0.1 * SIZE, rel=0.15)
    assert small.kind == "person"
    assert small.image[small.mask == 1].mean() > 150
    assert fit_to_share(item, share=0.9, size=SIZE) is item


def test_an_object_of_a_kind_is_found_or_not() -> None:
    found = draw_cutout(draw_painted(), np.random.default_rng(0), "person")
    assert found is not None
    assert found.kind == "person"
    assert draw_cutout(draw_painted(), np.random.default_rng(0), "dog") is None


def test_a_mover_that_leaves_says_so() -> None:
    item = cut_out(plain(9), square(left=10, top=10, side=20))
    place = draw_placement(item, np.random.default_rng(0), size=SIZE, share=0.2)
    leaving = draw_mover(item, place, STAGE, np.random.default_rng(1), leaves=1.0)
    staying = draw_mover(item, place, STAGE, np.random.default_rng(1), leaves=0.0)
    black, none = plain(0), np.zeros((SIZE, SIZE), np.uint8)
    assert "leaves" in leaving.traits
    assert "leaves" not in staying.traits
    shown = [render_over(black, none, [leaving], i)[0].any() for i in range(FRAMES)]
    assert shown[0]
    assert not all(shown)


def test_targets_of_one_layer_and_of_parts_begin_alike() -> None:
    item = cut_out(draw_painted().image, draw_painted().labels)
    stills, black, none = OneStill(draw_painted()), plain(0), np.zeros((SIZE, SIZE), np.uint8)
    counts, areas = set(), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        place = draw_placement(item, np.random.default_rng(7), size=SIZE, share=0.4)
        layers = draw_target_layers(item, place, STAGE, stills, rng)
        counts.add(len(layers))
        areas.append(int(render_over(black, none, layers, 0)[1].sum()))
    assert counts == {1, 2}
    assert min(areas) == pytest.approx(max(areas), rel=0.15)


def test_places_run_forth_and_back_over_a_short_picture() -> None:
    assert mirror_indices(np.arange(-3, 8), 3).tolist() == [2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]


def test_a_retextured_layer_keeps_its_outline() -> None:
    item = cut_out(plain(200), square(left=10, top=10, side=20))
    place = np.eye(3)
    layer = draw_mover(item, place, STAGE, np.random.default_rng(1), leaves=0.0)
    changed = retextured(layer, draw_picture(0), FRAMES, np.random.default_rng(2))
    black, none = plain(0), np.zeros((SIZE, SIZE), np.uint8)
    first, last = (render_over(black, none, [changed], i)[0] for i in (0, FRAMES - 1))
    plain_last = render_over(black, none, [layer], FRAMES - 1)[0]
    assert (first == render_over(black, none, [layer], 0)[0]).all()
    assert (last != plain_last).any()
    assert ((last.max(axis=2) > 0) <= (plain_last.max(axis=2) > 0)).mean() > 0.99


def test_a_curtain_hides_its_target_for_one_to_three_frames() -> None:
    places = np.stack([np.linspace(20, 40, FRAMES), np.full(FRAMES, 32.0)], axis=1)
    for seed in range(30):
        rng = np.random.default_rng(seed)
        occluder = draw_occluder(places, 6.0, draw_picture(1), rng, size=SIZE)
        covered = []
        for moment in range(FRAMES):
            x, y = places[moment].round().astype(int)
            seen = np.zeros((SIZE, SIZE), np.uint8)
            seen[y - 3 : y + 4, x - 3 : x + 4] = 1
            covered.append(not render_over(plain(0), seen, [occluder], moment)[1].any())
        assert 1 <= sum(covered) <= 4
        assert not covered[0]
