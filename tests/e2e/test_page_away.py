"""The network away and back, and one session in two tabs: nothing is lost, and it is said."""

from __future__ import annotations

import numpy as np
import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import open_page
from tests.support.page import (
    FRAMES,
    SAMPLE,
    begin_at,
    choose_tool,
    download,
    labels,
    paint,
    pause,
    place,
    track,
    zipped_masks,
)
from tests.support.running import Running

pytestmark = pytest.mark.anyio

AWAY = "The service does not answer"
# In the page: it is still tracking when another tab begins to.
SLOWLY = """async () => {
    const { source } = (await import("/web/page.js")).bench;
    const { picture } = source;
    source.picture = async (n) => {
        await new Promise((resolve) => setTimeout(resolve, 200));
        return picture.call(source, n);
    };
}"""


HEARD = """() => {
    window.heard = [];
    const hear = () => window.heard.push(document.getElementById("status").textContent);
    const changes = { childList: true, characterData: true, subtree: true };
    new MutationObserver(hear).observe(document.getElementById("status"), changes);
}"""


async def opened(page: Page) -> None:
    """Wait for the sample, and take the brush."""
    await expect(page.locator("#seek")).to_be_enabled()
    await expect(page.locator("#status")).to_contain_text("Then press Track")
    await choose_tool(page, "brush")


async def test_what_is_drawn_corrected_and_saved_waits_for_the_network(
    chromium: Browser, running: Running
) -> None:
    # A request that fails is an error in the console.
    async with open_page(chromium, f"{running.url}{SAMPLE}", watched=False) as page:
        status = page.locator("#status")
        await opened(page)
        await begin_at(page, 48)
        drawn = await labels(page)
        await choose_tool(page, "point")
        await page.context.set_offline(True)
        await page.mouse.click(*await place(page, 560, 40))
        await expect(status).to_contain_text(AWAY)
        assert np.array_equal(await labels(page), drawn)
        await page.click("#primary")
        await expect(status).to_contain_text(AWAY)
        await page.context.set_offline(False)
        await track(page)
        before = await zipped_masks(page)

        await page.locator("#seek").fill("52")
        await choose_tool(page, "brush")
        await paint(page, (560, 40), (600, 40))
        drawn = await labels(page)
        await page.context.set_offline(True)
        await page.click("#primary")
        await expect(status).to_contain_text(AWAY)
        assert np.array_equal(await labels(page), drawn)
        await expect(page.locator("#primary")).to_have_text("Track on from here")
        await page.context.set_offline(False)
        await track(page)
        after = await zipped_masks(page)
        assert list(after) == list(before)
        assert np.array_equal(after["00052.png"], drawn)

        await page.select_option("#format", "cvat")
        await page.context.set_offline(True)
        await page.click("#annotations")
        await expect(status).to_contain_text(AWAY)
        saved = await zipped_masks(page)  # the service is not asked for these
        assert list(saved) == list(before)
        await page.context.set_offline(False)
        assert b"<annotations>" in await download(page, "#annotations")


async def test_two_tabs_with_one_session_know_of_each_other(page: Page) -> None:
    await begin_at(page, 40)
    await pause(page)
    other = await page.context.new_page()
    await other.goto(page.url)
    for each in (page, other):
        await expect(each.locator("#status")).to_contain_text("open in another tab, too")
    await track(other)
    await expect(page.locator("#status")).to_contain_text("Another tab went on with this session")
    # A frame that is corrected there makes another session: this tab comes back to that one.
    await other.locator("#seek").fill("50")
    await choose_tool(other, "brush")
    await paint(other, (560, 40), (600, 40))
    await track(other)
    corrected = await zipped_masks(other)
    await other.close()
    await page.reload()
    await expect(page.locator("#status")).to_contain_text("Back where you were")
    found = await zipped_masks(page)
    assert list(found) == [f"{number:05d}.png" for number in range(40, FRAMES)]
    assert all(np.array_equal(found[name], mask) for name, mask in corrected.items())


async def test_a_session_that_is_tracked_on_in_another_tab_is_said_to_be(page: Page) -> None:
    await begin_at(page, 2)
    await pause(page)
    other = await page.context.new_page()
    await other.goto(page.url)
    await expect(other.locator("#status")).to_contain_text("another tab")
    await page.evaluate(SLOWLY)
    await other.evaluate(HEARD)
    await page.click("#primary")
    await expect(page.locator("#status")).to_contain_text("frames to go")
    await other.click("#primary")
    await expect(page.locator("#status")).to_contain_text("goes on in another tab")
    # Who has it is not told that the other one went on.
    assert not [text for text in await other.evaluate("window.heard") if "went on" in text]


async def test_each_tab_comes_back_to_its_own_session(page: Page) -> None:
    await begin_at(page, 57)
    await track(page)
    other = await page.context.new_page()
    await other.goto(page.url.partition("#")[0] + SAMPLE.removeprefix("/"))
    await opened(other)
    await begin_at(other, 58)
    await track(other)
    for each, first in ((page, 57), (other, 58)):
        await each.reload()
        await expect(each.locator("#status")).to_contain_text("Back where you were")
        assert len(await zipped_masks(each)) == FRAMES - first


async def test_corrections_of_one_tab_take_no_other_tabs_place(page: Page) -> None:
    await opened(page)
    kept = await page.evaluate("""async () => {
        const { readBookmark, writeBookmark } = await import("/web/bookmark.js");
        await writeBookmark({ session: "another tab's" });
        for (let n = 0; n < 6; n++) await writeBookmark({ session: `${n}` }, `${n - 1}`);
        const found = await Promise.all(["another tab's", "4", "5"].map(readBookmark));
        return found.map((each) => each?.session ?? null);
    }""")
    assert kept == ["another tab's", None, "5"]
