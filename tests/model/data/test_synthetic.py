"""Made-up clips: masks that stay on their object, and everything that may be drawn."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from model.data.static import Still
from model.data.synthetic import make_sample
from tests.model.data.drawings import OneStill, draw_labels, draw_painted, draw_picture

SIZE = 64


def test_masks_follow_a_moving_bending_object() -> None:
    """A bright object on dark ground is bright exactly where its mask says so."""
    agreements = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample = make_sample(OneStill(draw_painted()), rng, size=SIZE, frames=4)
        if sample is not None:
            bright = sample.frames.mean(axis=-1) > 100
            # An occluder is as bright as the object: only dark pixels can tell.
            agreements.append((bright | (sample.masks == 0)).mean())
    assert len(agreements) >= 20
    assert np.median(agreements) > 0.98


def test_everything_is_drawn_now_and_then() -> None:
    stills = OneStill(draw_painted(), same_category=draw_painted(bright=180))
    drawn: set[str] = set()
    for seed in range(300):
        sample = make_sample(stills, np.random.default_rng(seed), size=32, frames=5)
        drawn |= set(() if sample is None else sample.traits)
    scenes = {"whole picture", "in place", "pasted"}
    changes = {"hinged", "split", "leaves", "recolored", "retextured"}
    others = {"twin", "same category", "neighbor", "distractor", "occluder"}
    looks = {"compressed", "noisy", "soft", "small", "glare", "exposure", "shaken"}
    assert drawn == scenes | changes | others | looks


def test_a_picture_without_objects_gives_no_clip() -> None:
    empty = Still(draw_picture(0), np.zeros_like(draw_labels()))
    assert make_sample(OneStill(empty), np.random.default_rng(0), size=SIZE, frames=3) is None


def test_what_no_kin_is_known_of_gets_other_company() -> None:
    nameless = OneStill(replace(draw_painted(), kinds=()))
    samples = [
        make_sample(nameless, np.random.default_rng(i), size=32, frames=2) for i in range(80)
    ]
    drawn = {trait for sample in samples if sample is not None for trait in sample.traits}
    assert "same category" not in drawn
    assert {"twin", "neighbor", "distractor"} <= drawn


def test_one_of_several_objects_passes_over_another() -> None:
    """They come from both sides, meet in some frame, and part again."""
    stills, meetings = OneStill(draw_painted()), 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        sample = make_sample(stills, rng, size=SIZE, frames=9, objects=2)
        if sample is None or "crossing" not in sample.traits or sample.masks.max() < 2:
            continue
        apart = [_measure_distance(mask) for mask in sample.masks]
        known = [each for each in apart if each is not None]
        meetings += len(known) > 4 and min(known[1:-1]) < 0.5 * min(known[0], known[-1])
    assert meetings >= 5


def _measure_distance(mask: NDArray[np.uint8]) -> float | None:
    """Return the pixels between the centers of objects 1 and 2, None where one is not seen."""
    centers = [np.argwhere(mask == label) for label in (1, 2)]
    if min(map(len, centers)) < 4:
        return None
    return float(np.hypot(*(centers[0].mean(axis=0) - centers[1].mean(axis=0))))


def test_objects_alone_meet_nobody() -> None:
    stills = OneStill(draw_painted())
    samples = [make_sample(stills, np.random.default_rng(i), size=32, frames=3) for i in range(60)]
    assert all("crossing" not in sample.traits for sample in samples if sample is not None)
