"""The shipped prompt graph on the project's own pictures: the gallery's, which it never saw."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from scripts.page.clicks import CLIPS, TRUTH, Rgb, read_pictures
from service.engines.prompt_graph import PromptGraph, find_prompt_graph
from service.media.prompts import Prompt, Touch, segment_prompt
from service.media.sample import draw_sample

Thing = tuple[Rgb, NDArray[np.bool_], list[Touch]]  # a picture, what is in it, clicks on that


@pytest.fixture(scope="module")
def graph() -> PromptGraph:
    found = find_prompt_graph(SHIPPED_WEIGHTS, ["tamvt-mobile"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def things() -> list[Thing]:
    """The objects of the gallery's clips with the clicks that the page makes on them."""
    found = []
    for name, clip in CLIPS.items():
        number = TRUTH[name]["frames"][0]
        (picture,) = read_pictures(clip, [number])
        for each in clip["objects"]:
            truth = decode_rle(TRUTH[name]["masks"][str(number)][str(each["id"])])
            touches = [Touch([(x, y)], wanted=label == 1) for x, y, label in each["points"]]
            found.append((picture, truth, touches))
    return found


def box_of(mask: NDArray[np.bool_]) -> list[float]:
    rows, columns = np.nonzero(mask)
    left, top, right, bottom = columns.min(), rows.min(), columns.max(), rows.max()
    return [float(left - 3), float(top - 3), float(right - left + 7), float(bottom - top + 7)]


def test_it_is_sure_of_what_it_says(graph: PromptGraph) -> None:
    assert graph.spec.parity is not None
    assert graph.spec.parity <= 1
    assert 0 < graph.spec.sure_above < 1
    assert "research" in graph.spec.license


@pytest.mark.parametrize("clicks", [1, 3])
def test_clicks_find_what_is_clicked(graph: PromptGraph, things: list[Thing], clicks: int) -> None:
    found = [segment_prompt(rgb, Prompt(touches[:clicks]), graph) for rgb, _, touches in things]
    overlaps = [
        jaccard(each.mask, truth) for each, (_, truth, _) in zip(found, things, strict=True)
    ]
    assert np.mean(overlaps) > 0.85, overlaps
    assert min(overlaps) > 0.5, overlaps
    assert {each.made_by for each in found} == {"tamvt-mobile_prompt"}


def test_a_box_finds_what_it_holds(graph: PromptGraph, things: list[Thing]) -> None:
    found = [segment_prompt(rgb, Prompt(box=box_of(truth)), graph) for rgb, truth, _ in things]
    overlaps = [
        jaccard(each.mask, truth) for each, (_, truth, _) in zip(found, things, strict=True)
    ]
    assert np.mean(overlaps) > 0.9, overlaps
    assert min(overlaps) > 0.8, overlaps


def test_it_is_less_sure_where_nothing_is(graph: PromptGraph) -> None:
    rgb, labels = next(draw_sample())
    cup = segment_prompt(rgb, Prompt(box=box_of(labels > 0)), graph)
    assert jaccard(cup.mask, labels > 0) > 0.95
    noise = np.random.default_rng(0).integers(0, 256, rgb.shape, dtype=np.uint8)
    nowhere = segment_prompt(noise, Prompt([Touch([(300, 200)])]), graph)
    assert nowhere.score < cup.score
