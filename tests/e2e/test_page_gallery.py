"""The gallery: three clicks give a right track in each of its clips; and the page for everybody."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.async_api import Browser, expect

from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from model.core.masks import overlay_masks
from service.http.page import FOLDER
from service.media.prompts import Prompt, Touch, segment_prompt
from tamvt import Tracker
from tests.support.browser import open_page
from tests.support.page import SAMPLE
from tests.support.running import Running

SUPPORT = Path(__file__).parents[1] / "support"
CLIPS = {each["name"]: each for each in json.loads((FOLDER / "gallery/gallery.json").read_text())}
# By clip: which frames are tracked, in which order, and the true masks of some, by frame and id.
TRUTH: dict[str, Any] = json.loads((SUPPORT / "gallery_truth.json").read_text())
GOOD, LEAST = 0.9, 0.8  # of the J that the drawn mask gives: on average, and in any clip

Rgb = NDArray[np.uint8]


def pictures(clip: dict[str, Any], numbers: list[int]) -> list[Rgb]:
    """The frames of a clip with these numbers, in this order."""
    data = (FOLDER / clip["video"]).read_bytes()
    found = {}
    with av.open(io.BytesIO(data), "r") as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                found[number] = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            if number == max(numbers):
                break
    return [found[number] for number in numbers]


def tracked_j(images: list[Rgb], labels: NDArray[np.uint8], name: str) -> float:
    """The mean J of the true masks, of a track that begins with these labels."""
    frames, masks = TRUTH[name]["frames"], TRUTH[name]["masks"]
    tracker = Tracker(images[0], labels, threads=2)
    scores = []
    for number, found in zip(frames[1:], tracker.track(images[1:]), strict=True):
        for object_id, rle in masks.get(str(number), {}).items():
            scores.append(jaccard(found.labels == int(object_id), decode_rle(rle)))
    return float(np.mean(scores))


def test_three_clicks_give_a_right_track_in_each_clip() -> None:
    shares = {}
    for name, clip in CLIPS.items():
        images = pictures(clip, TRUTH[name]["frames"])
        true = TRUTH[name]["masks"][str(TRUTH[name]["frames"][0])]
        drawn = overlay_masks(
            [(int(key), decode_rle(rle)) for key, rle in true.items()], images[0].shape[:2]
        )
        clicked = np.zeros_like(drawn)
        for each in clip["objects"]:
            assert len(each["points"]) == 3
            touches = [Touch([(x, y)]) for x, y, _ in each["points"]]
            clicked[segment_prompt(images[0], Prompt(touches)).mask] = each["id"]
        shares[name] = tracked_j(images, clicked, name) / tracked_j(images, drawn, name)
    assert np.mean(list(shares.values())) >= GOOD, shares
    assert min(shares.values()) >= LEAST, shares


@pytest.mark.anyio
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_that_keeps_anybody_out(
    chromium: Browser, running: Running, scheme: str
) -> None:
    async with open_page(
        chromium, f"{running.url}{SAMPLE}", color_scheme=scheme, bypass_csp=True
    ) as page:
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        await page.click("#suggest")
        await expect(page.locator("#primary")).to_be_enabled()
        await page.add_script_tag(path=SUPPORT / "axe.min.js")
        found = await page.evaluate("() => axe.run()")
        assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []
        assert len(found["passes"]) > 20
