"""How well a click or a box becomes a mask: the prompt graph beside GrabCut, as they are served.

    python -m scripts.prompt_quality [--graphs model/weights] [--sets dev held-out] [--clicks 5]

Pictures are the held-out stills, which no prompt network is trained on, with the largest object of
each (where one mask holds several, the largest part), and the first frames of the videos of `dev`.
The first click is at the point furthest inside, each later one where the last mask is most wrong;
it is sent with all before it and that mask. The box is the same for both, each side off by up to a
tenth of its size, mostly outwards. Prints the mean IoU, the paired difference to GrabCut with its
95 % interval, and the milliseconds of a call on one core.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from model.commands.machine import processor
from model.commands.options import choose_data_folder
from model.core.contract import SHIPPED_WEIGHTS
from model.core.j_and_f import jaccard
from model.core.prompt_contract import ON_OBJECT
from model.data.clicks import jitter_box, place_click
from model.data.layouts import VideoSet
from model.data.prompt_samples import pick_part, split_stills
from model.data.static import Still, pick_largest, read_rgb, read_still
from model.data.video import read_mask
from model.evaluation.yardstick import paired_interval
from service.engines.prompt_graph import find_prompt_graph
from service.errors import NoObjects
from service.media.grabcut import Rgb
from service.media.prompt_views import PromptModel
from service.media.prompts import PointedMask, Prompt, Touch, segment_prompt

SETS = ("held-out", "dev")
BOX_OFF = 0.1  # of the box, each side


@dataclass(frozen=True, slots=True)
class PromptPicture:
    """A picture, its object uint8 {0, 1} (H, W), and the set that it is of."""

    source: str
    rgb: Rgb
    truth: NDArray[np.uint8]


@dataclass(slots=True)
class PromptScores:
    """What one of both gave for one kind of prompt, by picture."""

    iou: list[float] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)


def read_pictures(data: Path, kind: str) -> Iterator[PromptPicture]:
    """Yield the pictures of one of SETS."""
    if kind == "dev":
        for video in VideoSet("shared", data / "video", "dev").open():
            yield PromptPicture(video.name, read_rgb(video.frames[0]), read_mask(video.masks[0]))
        return
    for name, stills in split_stills(data).held_out.items():
        for paths in stills:
            still: Still = read_still(paths)
            mask = pick_largest(still)
            if mask is not None:
                several = int(still.labels.max()) == 255  # things in one mask, not instances
                yield PromptPicture(name, still.image, pick_part(mask) if several else mask)


def ask(
    picture: PromptPicture, prompt: Prompt, model: PromptModel | None, scores: PromptScores
) -> NDArray[np.bool_]:
    """Return the mask of a prompt, and add what it is worth; nothing found is an empty mask."""
    begun = time.process_time()
    try:
        found = segment_prompt(picture.rgb, prompt, model)
    except NoObjects:
        found = PointedMask(np.zeros(picture.truth.shape, np.bool_), 0.0, 0, ())
    scores.milliseconds.append(1000 * (time.process_time() - begun))
    scores.iou.append(jaccard(found.mask, picture.truth == 1))
    scores.score.append(found.score)
    return found.mask


def click_on(
    picture: PromptPicture, model: PromptModel | None, clicks: int, scores: dict[str, PromptScores]
) -> None:
    """Click so many times, each time where the mask is most wrong; a perfect mask stays."""
    mask: NDArray[np.bool_] | None = None
    touches: list[Touch] = []
    for number in range(1, clicks + 1):
        so_far = np.zeros_like(picture.truth) if mask is None else mask.astype(np.uint8)
        click = place_click(so_far, picture.truth)
        if click is not None:
            touches.append(Touch([(click.x, click.y)], wanted=click.label == ON_OBJECT))
        mask = ask(picture, Prompt(touches, previous=mask), model, scores[name_clicks(number)])


def name_clicks(number: int) -> str:
    return f"{number} click{'s' * (number > 1)}"


def draw_box(picture: PromptPicture, index: int) -> list[float]:
    """Return the box of a picture as a person might draw it, the same in each run."""
    rng = np.random.default_rng(index)
    left, top, right, bottom = map(float, jitter_box(picture.truth, rng, amount=BOX_OFF))
    return [left, top, right - left + 1, bottom - top + 1]


def measure(
    pictures: Sequence[PromptPicture], model: PromptModel | None, *, clicks: int
) -> dict[str, PromptScores]:
    """Return what is found by clicks and boxes, by kind of prompt."""
    scores: dict[str, PromptScores] = defaultdict(PromptScores)
    for index, picture in enumerate(pictures):
        ask(picture, Prompt(box=draw_box(picture, index)), model, scores["box"])
        click_on(picture, model, clicks, scores)
    return scores


def table(ours: dict[str, PromptScores], grabcut: dict[str, PromptScores]) -> list[str]:
    """Return the rows that compare both."""
    rows = []
    for prompt, found in ours.items():
        other = grabcut[prompt]
        gain, low, high = (100 * each for each in paired_interval(other.iou, found.iou))
        rows.append(
            f"| {prompt} | {100 * np.mean(found.iou):.1f} | {100 * np.mean(other.iou):.1f} "
            f"| {gain:+.1f} ({low:+.1f} to {high:+.1f}) | {np.median(found.milliseconds):.0f} "
            f"/ {np.percentile(found.milliseconds, 90):.0f} | {np.median(other.milliseconds):.0f} |"
        )
    return rows


def tell_sure(scores: dict[str, PromptScores], sure_above: float) -> str:
    """Return how good the masks are that the graph is sure of, and those that it is not."""
    told_scores = np.concatenate([each.score for each in scores.values()])
    ious = np.concatenate([each.iou for each in scores.values()])
    sure = told_scores >= sure_above
    differ = np.ptp(told_scores) > 0 and np.ptp(ious) > 0
    relation = np.corrcoef(told_scores, ious)[0, 1] if differ else 0.0
    told = [f"{100 * ious[part].mean():.1f}" if part.any() else "-" for part in (sure, ~sure)]
    return (
        f"score at least {sure_above:g}: {100 * sure.mean():.0f} % of masks, mean IoU {told[0]}; "
        f"below: {told[1]}; correlation {relation:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="tamvt-mobile")
    parser.add_argument("--graphs", type=Path, default=SHIPPED_WEIGHTS, help="their folder")
    parser.add_argument("--sets", nargs="*", default=SETS, choices=SETS)
    parser.add_argument("--clicks", type=int, default=5)
    parser.add_argument("--every", type=int, default=1, help="only every so many pictures")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    model = find_prompt_graph(arguments.graphs, [arguments.model])
    if model is None:
        raise SystemExit(f"no {arguments.model}_prompt.onnx in {arguments.graphs}")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    print(f"{model.spec.graph}, weights {model.spec.weights_sha256[:12]}, {processor()}, {today}")
    for kind in arguments.sets:
        pictures = list(read_pictures(choose_data_folder(None), kind))[:: arguments.every]
        ours = measure(pictures, model, clicks=arguments.clicks)
        grabcut = measure(pictures, None, clicks=arguments.clicks)
        print(f"\n| {kind}, {len(pictures)} pictures | IoU | GrabCut | gain (95 %) | ms | ms |")
        print("|---|---:|---:|---|---:|---:|")
        print("\n".join(table(ours, grabcut)))
        print(f"\n{tell_sure(ours, model.spec.sure_above)}")


if __name__ == "__main__":
    main()
