"""The page's menu of models: real Chromium, a real service that serves several."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from model.core.contract import Measured
from model.export.graph_export import rewrite_spec
from tests.support import scene
from tests.support.browser import open_page
from tests.support.page import choose_tool, open_images, paint, track
from tests.support.running import running_service
from tests.support.toy_model import LESS_STEEP, write_toy_model

pytestmark = pytest.mark.anyio
GET = "(path) => fetch(path).then((answer) => answer.json())"
WEAK = Measured(parity=1, agreement=1.0, parameters=1, macs=1, dev_j=41.5)


async def test_a_model_is_chosen_among_those_that_are_good_enough(
    chromium: Browser, tmp_path: Path
) -> None:
    write_toy_model(tmp_path)
    write_toy_model(tmp_path, name="other", weights=LESS_STEEP)
    write_toy_model(tmp_path, name="weak")
    rewrite_spec(tmp_path, "weak", measured=WEAK)
    settings = {"TAMVT_MODELS": "toy,other,weak"}
    with running_service(state=tmp_path, weights=tmp_path, settings=settings) as running:
        async with open_page(chromium, running.url) as page:
            listed = (await page.evaluate(GET, "/v1/models"))["models"]
            assert [model["experimental"] for model in listed] == [False, False, True]
            assert listed[2]["measured"]["dev_j"] == 41.5
            assert listed[0]["measured"] is None
            menu = page.get_by_label("Model of the next tracking")
            await expect(menu.locator("option")).to_have_text(["toy", "other"])
            await menu.select_option("other")
            await expect(page.locator("#status")).to_contain_text("Then press Track")
            await choose_tool(page, "brush")
            await open_images(page, **{f"{number}.png": scene.png(number) for number in range(3)})
            await paint(page, (24, 24), (26, 26))
            await track(page)
            session = await page.evaluate("location.hash.slice('#session='.length)")
            told = await page.evaluate(GET, f"/v1/sessions/{session}")
            assert told["model"] == "other"
            await menu.select_option("toy")
            await expect(page.locator("#status")).to_have_text(
                "Press Start over to track with toy."
            )
