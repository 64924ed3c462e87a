"""From prompts to masks by a model's graph: what it is shown, and what becomes of its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from model.core.j_and_f import jaccard
from model.core.prompt_contract import BOX_END, BOX_START, ON_BACKGROUND, ON_OBJECT, PADDING
from service.engines.prompt_graph import PromptGraph, open_prompt_graph
from service.errors import NoObjects
from service.media.prompt_views import PromptViewer
from service.media.prompts import GRABCUT, Prompt, Touch, segment_prompt
from tests.support.toy_prompt import write_toy_prompt

Mask = NDArray[np.bool_]
HEIGHT, WIDTH = 240, 320


class WatchedGraph:
    """The toy prompt graph, and the shapes and labels of what it was shown."""

    def __init__(self, graph: PromptGraph) -> None:
        self.spec, self.graph = graph.spec, graph
        self.shown: list[tuple[tuple[int, ...], list[int]]] = []

    def __call__(self, *shown: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
        image, _, labels, _ = shown
        self.shown.append((image.shape[:2], labels.tolist()))
        return self.graph(*shown)


@pytest.fixture
def graph(tmp_path: Path) -> WatchedGraph:
    return WatchedGraph(open_prompt_graph(write_toy_prompt(tmp_path), "toy"))


def discs() -> tuple[NDArray[np.uint8], Mask, Mask]:
    """A red and a blue disc on a dark floor, and their masks."""
    rgb = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    masks = []
    for channel, center in ((0, (80, 100)), (2, (230, 140))):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        cv2.circle(mask, center, 30, 1, thickness=-1)
        rgb[mask == 1, channel] = 220
        masks.append(mask == 1)
    return rgb, masks[0], masks[1]


def test_a_first_click_is_looked_at_twice_the_second_time_closely(graph: WatchedGraph) -> None:
    rgb, red, blue = discs()
    for place, truth in (((80, 100), red), ((230, 140), blue)):
        graph.shown.clear()
        found = segment_prompt(rgb, Prompt([Touch([place])]), graph)
        assert jaccard(found.mask, truth) > 0.97  # of the whole picture at 64 x 96 it is 0.93
        assert found.made_by == "toy_prompt"
        assert found.score == pytest.approx(0.9)
        assert found.warnings == ()
        # The mask so far is shown, and not shown.
        assert [size for size, _ in graph.shown] == [(64, 96), (64, 64), (64, 64)]


def test_a_box_is_looked_at_closely_and_holds_its_mask(graph: WatchedGraph) -> None:
    rgb, red, _ = discs()
    found = segment_prompt(rgb, Prompt(box=[45, 65, 70, 70]), graph)
    assert jaccard(found.mask, red) > 0.97
    assert graph.shown == [((64, 64), [BOX_START, BOX_END])]
    half = segment_prompt(rgb, Prompt(box=[60, 65, 40, 70]), graph)
    assert not half.mask[:, :60].any()
    assert jaccard(half.mask[:, 60:100], red[:, 60:100]) > 0.97


def test_a_later_click_changes_the_mask_so_far(graph: WatchedGraph) -> None:
    rgb, red, blue = discs()
    touches = [Touch([(230, 140)])]
    found = segment_prompt(rgb, Prompt(touches, previous=red), graph)
    assert jaccard(found.mask, red | blue) > 0.85
    assert len(graph.shown) == 2
    # What a touch says already changes nothing, and nobody is asked.
    again = segment_prompt(rgb, Prompt(touches, previous=found.mask), graph)
    assert np.array_equal(again.mask, found.mask)
    assert len(graph.shown) == 2
    assert (again.made_by, again.score < 1) == (GRABCUT, True)


def test_clicks_at_once_are_taken_in_their_order(graph: WatchedGraph) -> None:
    rgb, _, _ = discs()
    touches = [Touch([(80, 100)]), Touch([(85, 95)]), Touch([(230, 140)])]
    found = segment_prompt(rgb, Prompt(touches), graph)
    assert found.mask[[100, 95, 140], [80, 85, 230]].all()
    # The second says what the mask shows already; the third is shown with both before it.
    assert [len(labels) for _, labels in graph.shown] == [1, 1, 1, 3, 3]
    first = segment_prompt(rgb, Prompt(touches[:1]), graph).mask
    again = segment_prompt(rgb, Prompt(touches, previous=first), graph)
    assert np.array_equal(again.mask, found.mask)


def test_a_click_does_something_whatever_the_graph_makes_of_it(graph: WatchedGraph) -> None:
    rgb, red, _ = discs()
    spared = Touch([(80, 100)], wanted=False)
    found = segment_prompt(rgb, Prompt([spared], previous=red), graph)
    assert not found.mask[100, 80]
    assert jaccard(found.mask, red) > 0.9
    assert graph.shown[-1][1] == [ON_BACKGROUND]


def test_of_two_like_things_the_one_that_is_clicked_is_meant(graph: WatchedGraph) -> None:
    rgb, red, blue = discs()
    rgb[blue] = rgb[red][0]
    found = segment_prompt(rgb, Prompt([Touch([(80, 100)])]), graph)
    assert jaccard(found.mask, red) > 0.97
    both = segment_prompt(rgb, Prompt([Touch([(230, 140)])], previous=found.mask), graph)
    assert jaccard(both.mask, red | blue) > 0.95


def test_a_stroke_is_a_few_points(graph: WatchedGraph) -> None:
    rgb, red, _ = discs()
    stroke = Touch([(70 + each, 100) for each in range(20)])
    found = segment_prompt(rgb, Prompt([stroke]), graph)
    assert jaccard(found.mask, red) > 0.97
    assert graph.shown[0][1] == [ON_OBJECT] * 4


def test_points_beside_a_window_are_not_shown(graph: WatchedGraph) -> None:
    rgb, red, _ = discs()
    viewer = PromptViewer(graph, rgb)
    viewer.find_in_box(red, [(80, 100), (300, 20)], [True, False])
    assert graph.shown == [((64, 64), [BOX_START, BOX_END, ON_OBJECT, PADDING])]


def test_a_graph_that_is_not_sure_says_so(tmp_path: Path) -> None:
    unsure = open_prompt_graph(write_toy_prompt(tmp_path, score=0.3), "toy")
    found = segment_prompt(discs()[0], Prompt([Touch([(80, 100)])]), unsure)
    assert "may be wrong" in found.warnings[0]


def test_grabcut_looks_where_the_graph_finds_nothing(graph: WatchedGraph) -> None:
    class Blind(WatchedGraph):
        def __call__(self, *shown: NDArray[Any]) -> tuple[NDArray[np.uint8], float]:
            return np.zeros(shown[0].shape[:2], np.uint8), 0.9

    rgb, red, _ = discs()
    found = segment_prompt(rgb, Prompt(box=[45, 65, 70, 70]), Blind(graph.graph))
    assert jaccard(found.mask, red) > 0.97
    assert found.made_by == GRABCUT


def test_the_smallest_pictures_are_looked_at_too(graph: WatchedGraph) -> None:
    rgb = np.full((3, 2, 3), 40, np.uint8)
    rgb[1] = 220
    found = segment_prompt(rgb, Prompt([Touch([(1, 1)])]), graph)
    assert found.mask[1].all()
    with pytest.raises(NoObjects):
        segment_prompt(rgb, Prompt([Touch([(1, 1)])], previous=None))
