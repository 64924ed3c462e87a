"""The gallery: three clicks give a right track in each of its clips; and the page for everybody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, expect

from scripts.page.clicks import CLIPS, TRUTH, measure
from tests.support.browser import open_page
from tests.support.page import SAMPLE
from tests.support.running import Running

SUPPORT = Path(__file__).parents[1] / "support"
GOOD, LEAST = 0.9, 0.8  # of the J that the drawn mask gives: on average, and in any clip


def test_three_clicks_give_a_right_track_in_each_clip() -> None:
    assert all(len(each["points"]) == 3 for clip in CLIPS.values() for each in clip["objects"])
    # They are measured where the page puts them.
    assert all(TRUTH[name]["frames"][0] == clip["start"] for name, clip in CLIPS.items())
    shares = {name: measure(name).share for name in CLIPS}
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
