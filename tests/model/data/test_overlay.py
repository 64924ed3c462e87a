"""Video with things added: whose mask it is, what covers what, and what stays untouched."""

import numpy as np
from numpy.typing import NDArray

from model.data.overlay import (
    VideoFootage,
    add_objects,
    add_small_target,
    add_something,
    add_things,
    add_twin,
    find_free_directions,
    transplant,
)
from tests.model.data.drawings import OneStill, draw_painted, square

SIZE, FRAMES = 64, 6
STILLS = OneStill(draw_painted(), same_category=draw_painted())


def footage(*, left: int = 10) -> VideoFootage:
    """A gray square that moves to the right over black."""
    masks = [square(left=left + 3 * i, top=20, side=14) for i in range(FRAMES)]
    seen = np.stack(masks)
    return VideoFootage((seen[..., None] * np.uint8(120)).repeat(3, axis=3), seen)


def black_video() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    frames = np.full((FRAMES, SIZE, SIZE, 3), 60, np.uint8)
    return frames, np.zeros((FRAMES, SIZE, SIZE), np.uint8)


def test_things_cover_the_target_and_its_mask_alike() -> None:
    covered = 0
    for seed in range(20):
        made = add_things(footage(), STILLS, np.random.default_rng(seed))
        assert (made.seen <= footage().seen).all()
        covered += int((footage().seen - made.seen).sum())
        kept = made.seen == 1
        # What is still seen of the square is gray, but for the soft edges of what covers it.
        assert (np.abs(made.frames[kept].astype(int) - 120) <= 70).mean() > 0.9
    assert covered > 0


def test_a_small_target_is_the_only_target() -> None:
    for seed in range(20):
        made = add_small_target(footage(), STILLS, np.random.default_rng(seed))
        assert made is not None
        assert made.seen[0].mean() < 0.05
        assert (made.frames != footage().frames).any() == made.seen.any()
        assert "small target on video" in made.traits


def test_a_small_target_may_pass_behind_the_videos_object() -> None:
    behind = 0
    for seed in range(40):
        made = add_small_target(footage(), STILLS, np.random.default_rng(seed))
        assert made is not None
        behind += int((made.seen & footage().seen).sum() == 0)
    assert behind > 0


def test_a_twin_does_not_change_the_target_it_passes_behind() -> None:
    added, unchanged = 0, 0
    for seed in range(20):
        made = add_twin(footage(), np.random.default_rng(seed))
        assert made is not None
        assert (made.seen <= footage().seen).all()
        added += int((made.frames != footage().frames).any())
        unchanged += int((made.seen == footage().seen).all())
    assert added > 10
    assert unchanged > 10


def cut_off(*, left: int, top: int) -> VideoFootage:
    seen = np.stack([square(left=left, top=top, side=14)] * FRAMES)
    return VideoFootage((seen[..., None] * np.uint8(120)).repeat(3, axis=3), seen)


def test_a_copy_moves_only_where_no_border_cuts_it_off() -> None:
    assert find_free_directions(cut_off(left=20, top=20).seen).tolist() == [True, True]
    assert find_free_directions(cut_off(left=0, top=20).seen).tolist() == [False, True]
    assert find_free_directions(cut_off(left=20, top=50).seen).tolist() == [True, False]


def test_a_twin_of_what_a_border_cuts_off_stays_at_that_border() -> None:
    for seed in range(20):
        made = add_twin(cut_off(left=25, top=50), np.random.default_rng(seed))
        assert made is not None
        added = (made.frames[..., 0] > 60) & (cut_off(left=25, top=50).seen == 0)
        rows = np.flatnonzero(added.any(axis=(0, 2)))
        assert rows.size == 0 or rows.min() >= 49


def test_an_object_cut_off_on_two_sides_gets_no_twin() -> None:
    assert add_twin(cut_off(left=0, top=50), np.random.default_rng(0)) is None


def test_a_transplanted_object_keeps_its_place_and_loses_its_ground() -> None:
    made = transplant(footage(), STILLS, black_video, np.random.default_rng(0))
    inner = footage().seen[:, 1:-1, 1:-1] & made.seen[:, 1:-1, 1:-1]
    assert inner.sum() > 0.6 * footage().seen.sum()
    assert (made.seen <= footage().seen).all()
    assert (made.frames[made.seen == 1] > 60).mean() > 0.9
    assert (made.frames[footage().seen == 0] > 0).mean() > 0.9


def test_every_addition_is_drawn() -> None:
    drawn: set[str] = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        drawn |= set(add_something(footage(), STILLS, black_video, rng).traits)
    assert {"things over video", "small target on video", "twin on video", "transplanted"} <= drawn
    assert "occluder" in drawn


def test_added_objects_are_labeled_where_they_are_seen() -> None:
    labels: set[int] = set()
    for seed in range(20):
        made = add_objects(footage(), STILLS, np.random.default_rng(seed), objects=3)
        changed = (made.frames != footage().frames).any(axis=3)
        assert (made.seen <= 3).all()
        added = made.seen > 1
        assert changed[added].mean() > 0.95 if added.any() else True
        labels |= set(np.unique(made.seen).tolist())
    assert labels == {0, 1, 2, 3}


def test_a_twin_can_be_an_object_of_its_own() -> None:
    for seed in range(20):
        made = add_twin(footage(), np.random.default_rng(seed), label=2)
        without = add_twin(footage(), np.random.default_rng(seed))
        assert made is not None
        assert without is not None
        assert (made.frames == without.frames).all()
        assert ((made.seen == 1) == (without.seen == 1)).all()


def test_clips_too_small_for_a_small_target_get_one_as_well() -> None:
    small = VideoFootage(
        np.zeros((3, 32, 32, 3), np.uint8), np.zeros((3, 32, 32), np.uint8), traits=()
    )
    made = [add_small_target(small, STILLS, np.random.default_rng(seed)) for seed in range(5)]
    assert any(each is not None and each.seen.any() for each in made)
