"""What `scripts.prompt_quality` measures: clicks where a mask is wrong, equal boxes for both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scripts.prompt_quality import PromptPicture, draw_box, measure, table, tell_sure
from service.engines.prompt_graph import open_prompt_graph
from tests.support import scene
from tests.support.toy_prompt import write_toy_prompt

BOTH = ["box", "1 click", "2 clicks"]


@pytest.fixture
def picture() -> PromptPicture:
    """A red and a blue square, which are meant together."""
    truth = (scene.labels(0, objects=2) > 0).astype(np.uint8)
    return PromptPicture("drawn", scene.picture(0, objects=2), truth)


def test_each_click_mends_what_is_most_wrong(picture: PromptPicture) -> None:
    found = measure([picture], None, clicks=2)
    assert list(found) == BOTH
    assert found["1 click"].iou == pytest.approx([0.5])  # one of two squares
    assert found["2 clicks"].iou == [1.0]
    assert all(len(each.milliseconds) == len(each.score) == 1 for each in found.values())


def test_boxes_are_the_same_in_each_run(picture: PromptPicture) -> None:
    assert draw_box(picture, 3) == draw_box(picture, 3) != draw_box(picture, 4)


def test_the_table_tells_both_and_what_lies_between(picture: PromptPicture, tmp_path: Path) -> None:
    graph = open_prompt_graph(write_toy_prompt(tmp_path, score=0.9), "toy")
    ours, grabcut = measure([picture], graph, clicks=2), measure([picture], None, clicks=2)
    rows = table(ours, grabcut)
    assert [row.split("|")[1].strip() for row in rows] == BOTH
    one = rows[1].split("|")
    assert float(one[2]) == pytest.approx(100 * ours["1 click"].iou[0], abs=0.1)
    assert float(one[3]) == 50.0
    assert tell_sure(ours, 0.75).startswith("score at least 0.75: 100 % of masks")
