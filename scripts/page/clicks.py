"""Tracks the page's gallery from three clicks on each object: `python -m scripts.page.clicks`.

Each clip is tracked twice by the shipped model, in process: from the mask that the clicks of "Click
for me" give, and from a true one. It prints the mean J of both, and what share the first is. Clicks
become masks as in the service: by the model's prompt graph where it has one, else by GrabCut.
"""

from __future__ import annotations

import io
import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from model.core.contract import SHIPPED_WEIGHTS
from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from model.core.masks import overlay_masks
from service.engines.prompt_graph import find_prompt_graph
from service.http.page import FOLDER
from service.media.prompts import Prompt, Touch, segment_prompt
from tamvt import Tracker

SUPPORT = Path(__file__).parents[2] / "tests" / "support"
CLIPS = {each["name"]: each for each in json.loads((FOLDER / "gallery/gallery.json").read_text())}
# By clip: which frames are tracked, in which order, and the true masks of some, by frame and id.
TRUTH: dict[str, Any] = json.loads((SUPPORT / "gallery_truth.json").read_text())

SHIPPED_MODEL = "tamvt-mobile"

Rgb = NDArray[np.uint8]


class Clicked(NamedTuple):
    """The mean J of a clip's track, from a true mask and from clicks."""

    drawn: float
    clicked: float

    @property
    def share(self) -> float:
        """What part of the one the other is."""
        return self.clicked / self.drawn


def read_pictures(clip: dict[str, Any], numbers: list[int]) -> list[Rgb]:
    """Return the frames of a clip with these numbers, in this order."""
    data = (FOLDER / clip["video"]).read_bytes()
    found = {}
    with av.open(io.BytesIO(data), "r") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                found[number] = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if number == max(numbers):
                break
    return [found[number] for number in numbers]


def track(images: list[Rgb], labels: NDArray[np.uint8], name: str) -> float:
    """Return the mean J of the true masks, of a track that begins with these labels."""
    frames, masks = TRUTH[name]["frames"], TRUTH[name]["masks"]
    tracker = Tracker(images[0], labels, threads=2)
    scores = []
    for number, found in zip(frames[1:], tracker.track(images[1:]), strict=True):
        for object_id, rle in masks.get(str(number), {}).items():
            scores.append(jaccard(found.labels == int(object_id), decode_rle(rle)))
    return float(np.mean(scores))


def measure(name: str) -> Clicked:
    """Track a clip from a true mask of its first frame, and from its three clicks an object."""
    clip = CLIPS[name]
    images = read_pictures(clip, TRUTH[name]["frames"])
    true = TRUTH[name]["masks"][str(TRUTH[name]["frames"][0])]
    drawn = overlay_masks(
        [(int(key), decode_rle(rle)) for key, rle in true.items()], images[0].shape[:2]
    )
    clicked = np.zeros_like(drawn)
    model = find_prompt_graph(SHIPPED_WEIGHTS, [SHIPPED_MODEL])
    for each in clip["objects"]:
        touches = [Touch([(x, y)], wanted=label == 1) for x, y, label in each["points"]]
        clicked[segment_prompt(images[0], Prompt(touches), model).mask] = each["id"]
    return Clicked(track(images, drawn, name), track(images, clicked, name))


def main() -> None:
    """Print a table in Markdown."""
    print(f"{date.today()}, {platform.machine()}, {os.cpu_count()} processors\n")
    print("| clip | J from the drawn mask | J from three clicks | share |\n|---|---|---|---|")
    found = {name: measure(name) for name in CLIPS}
    for name, each in found.items():
        print(f"| {name} | {each.drawn:.3f} | {each.clicked:.3f} | {each.share:.1%} |")
    print(f"| mean | | | {np.mean([each.share for each in found.values()]):.1%} |")


if __name__ == "__main__":
    main()
