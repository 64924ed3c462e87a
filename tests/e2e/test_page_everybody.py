"""The page for everybody: by the keyboard alone, on a phone, seen by axe-core in every state."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, CDPSession, Page, expect

from tests.support import scene
from tests.support.browser import PHONE, open_page
from tests.support.page import (
    CUP,
    FRAMES,
    SAMPLE,
    download,
    labels,
    open_images,
    paint,
    place,
    shown,
    track,
    zipped_masks,
)
from tests.support.running import Running

pytestmark = pytest.mark.anyio

AXE = Path(__file__).parents[1] / "support" / "axe.min.js"
SIDEWAYS = {"width": 844, "height": 390}
READY = "Then press Track"


async def axe_finds(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds wrong in the page as it is: the rule, and the first element."""
    await page.add_script_tag(path=AXE)
    found = await page.evaluate("() => axe.run()")
    assert len(found["passes"]) > 15
    return [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]]


async def tab_to(page: Page, selector: str, *, key: str = "Tab") -> None:
    """Press Tab until the element has the focus."""
    for _ in range(60):
        if await page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
            return
        await page.keyboard.press(key)
    raise AssertionError(f"Tab does not lead to {selector}")


async def press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_keys_alone_track_correct_and_download(page: Page) -> None:
    status, primary = page.locator("#status"), page.locator("#primary")
    await page.reload()
    await expect(status).to_contain_text(READY)
    await tab_to(page, "#marks")
    await press(page, *["Shift+ArrowLeft"] * 7, *["Shift+ArrowDown"] * 3, "Space")
    await expect(status).to_contain_text("Click what is missing")
    assert (await labels(page) == CUP).sum() > 15_000
    await tab_to(page, "#primary")
    await page.keyboard.press("Enter")
    await expect(primary).to_have_text("All frames are tracked")
    # A frame in the middle: a square is painted, and what follows is tracked from it.
    await tab_to(page, "#seek", key="Shift+Tab")
    await press(page, "End", *["ArrowLeft"] * 3)
    await expect(page.locator("#counter")).to_have_text(f"{FRAMES - 3} / {FRAMES}")
    before = await labels(page)
    await tab_to(page, "#marks", key="Shift+Tab")
    await press(page, "b", "Space", *["ArrowRight"] * 3, "Space")
    await expect(primary).to_have_text("Track on from here")
    await press(page, "Control+z")
    assert np.array_equal(await labels(page), before)
    await press(page, "Control+y")
    assert not np.array_equal(await labels(page), before)
    await tab_to(page, "#primary")
    await page.keyboard.press("Enter")
    await expect(primary).to_have_text("All frames are tracked")
    await tab_to(page, "#zip")
    async with page.expect_download() as saved:
        await page.keyboard.press("Enter")
    assert (await saved.value).suggested_filename == "cup-masks.zip"


async def test_the_picture_follows_the_cross_and_the_wheel_moves_it(page: Page) -> None:
    stage = "async () => (await import('/web/page.js')).bench.viewer.stage.place({{ {} }})"
    area = await page.locator("#marks").bounding_box()
    assert area is not None
    x, y = area["x"] + area["width"], area["y"] + area["height"] / 2
    right_edge = stage.format(f"clientX: {x}, clientY: {y}")
    await page.locator("#marks").focus()
    await press(page, "ArrowRight", *["+"] * 8)
    seen = (await page.evaluate(right_edge))[0]
    assert seen < 500  # of 640
    await press(page, *["Shift+ArrowRight"] * 12)  # 240 pixels from the middle
    assert (await page.evaluate(right_edge))[0] > 564
    await page.mouse.move(x - area["width"] / 2, y)
    for key, axis in (("Shift", 0), ("Alt", 1)):
        before = (await page.evaluate(right_edge))[axis]
        await page.keyboard.down(key)
        await page.mouse.wheel(0, -60)
        await page.keyboard.up(key)
        await page.wait_for_function(
            f"async (before) => Math.abs((await ({right_edge})())[{axis}] - before) > 5", arg=before
        )


async def test_after_a_reload_tool_and_look_are_as_they_are_shown(page: Page) -> None:
    await page.locator("#effect").select_option("cutout")
    await page.locator("#opacity").fill("80")
    await page.reload()
    await expect(page.locator("#status")).to_contain_text(READY)
    read = """async () => {
        const { bench } = await import("/web/page.js");
        const tool = document.querySelector("[name=tool]:checked").value;
        const controls = ["effect", "opacity"].map((id) => document.getElementById(id));
        const [effect, opacity] = controls.map(({ value }) => value);
        const { desk, look } = bench;
        return [[tool, effect, opacity / 100], [desk.tool, look.effect, look.opacity]];
    }"""
    shown_there, used = await page.evaluate(read)
    assert shown_there == used


async def test_help_tells_the_keys_and_leads_to_the_api(page: Page) -> None:
    await page.get_by_role("button", name="Help").click()
    dialog = page.get_by_role("dialog")
    await expect(dialog).to_contain_text("Not this")
    await expect(dialog.get_by_role("link", name="every call of the API")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    await page.keyboard.press("?")
    await expect(dialog).to_be_visible()
    await dialog.get_by_role("button", name="Close").click()
    name = page.get_by_label("Name of object 6")
    await name.fill("why")
    await name.press("?")  # a letter like others
    await expect(dialog).to_be_hidden()


async def two_fingers(touch: CDPSession, *moments: tuple[tuple[float, float], ...]) -> None:
    """Put fingers on these places of the screen, move them from moment to moment, lift them."""
    for number, places in enumerate(moments):
        points = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(places)]
        kind = "touchMove" if number else "touchStart"
        await touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    await touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


async def test_a_phone_points_pinches_tracks_and_saves(chromium: Browser, running: Running) -> None:
    async with open_page(
        chromium, f"{running.url}{SAMPLE}", viewport=PHONE, is_mobile=True, has_touch=True
    ) as page:
        await expect(page.locator("#status")).to_contain_text(READY)
        touch = await page.context.new_cdp_session(page)
        x, y = await place(page, 320, 180)
        await two_fingers(
            touch, *(((x - step, y), (x + step, y)) for step in (30.0, 50.0, 70.0, 90.0))
        )
        zoom = "async () => (await import('/web/page.js')).bench.viewer.stage.zoom"
        assert 2.2 < await page.evaluate(zoom) < 3.8
        assert not (await labels(page)).any()  # two fingers are no pen
        await page.locator("#zoom-fit").tap()
        assert await page.evaluate(zoom) == 1
        await page.touchscreen.tap(*await place(page, 175, 250))
        await expect(page.locator("#primary")).to_be_enabled()
        await expect(page.locator("#status")).to_contain_text("Click what is missing")
        await page.locator("#primary").tap()
        await expect(page.locator("#primary")).to_have_text("All frames are tracked")
        assert len(await zipped_masks(page)) == FRAMES


@pytest.mark.parametrize("size", [PHONE, SIDEWAYS, {"width": 1366, "height": 768}])
async def test_what_one_needs_first_is_on_the_first_screen(
    chromium: Browser, running: Running, size: dict[str, int]
) -> None:
    async with open_page(chromium, f"{running.url}{SAMPLE}", viewport=size) as page:
        await expect(page.locator("#status")).to_contain_text(READY)
        for wanted in ("#picture", "#primary", "#play", "#seek", "#tools"):
            area = await page.locator(wanted).bounding_box()
            assert area is not None, wanted
            assert area["x"] >= -0.5, wanted
            assert area["x"] + area["width"] <= size["width"] + 0.5, wanted
            assert area["y"] + min(area["height"], 60) <= size["height"], wanted
        wide = await page.evaluate("() => document.documentElement.scrollWidth")
        assert wide == size["width"]
        if size == SIDEWAYS:  # the videos are below: the header leads there
            await page.get_by_role("button", name="Videos").click()
        await expect(page.get_by_role("button", name="Video file")).to_be_in_viewport()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1280, "height": 820}, PHONE])
async def test_axe_finds_nothing_where_something_was_lost_or_helped(
    chromium: Browser, running: Running, scheme: str, size: dict[str, int]
) -> None:
    async with open_page(
        chromium, f"{running.url}{SAMPLE}", color_scheme=scheme, bypass_csp=True, viewport=size
    ) as page:
        await expect(page.locator("#status")).to_contain_text(READY)
        images = {f"{number}.png": scene.png(number) for number in range(4)}
        empty = scene.encode(np.full_like(scene.picture(0), scene.FLOOR[0]), ".png")
        await open_images(page, **(images | {"2.png": empty}))
        await page.locator("[name=tool][value=brush]").check()
        await paint(page, (24, 24), (26, 26))
        await track(page)
        await expect(page.locator("#spots button")).to_have_count(1)
        assert await axe_finds(page) == []
        await page.get_by_role("button", name="Help").click()
        assert await axe_finds(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_in_the_reference(
    chromium: Browser, running: Running, scheme: str
) -> None:
    async with open_page(
        chromium, f"{running.url}/docs", color_scheme=scheme, bypass_csp=True
    ) as page:
        await expect(page.locator("#stream")).to_be_attached()
        assert await axe_finds(page) == []


async def test_each_clip_of_the_gallery_is_opened_and_clicked(page: Page) -> None:
    cards = page.locator("#gallery button")
    for number in range(await cards.count()):
        await cards.nth(number).click()
        await expect(cards.nth(number)).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#credits")).to_contain_text(re.compile(r"\(.+\)"))
        await page.click("#suggest")
        await expect(page.locator("#primary")).to_be_enabled()
        await expect(page.locator("#status")).to_have_text("Press Track.")
        rows = page.locator("#objects li")
        found = {int(each) for each in np.unique(await labels(page)) if each}
        assert len(found) == await rows.count()
        at = await shown(page)
        await page.click("#primary")
        await expect(page.locator("#tracked")).to_have_text(re.compile(r"^[3-9]|\d\d+$"))
        await page.click("#primary")
        await expect(page.locator("#primary")).to_have_text(re.compile("Continue|All frames"))
        assert await shown(page) != at  # the rabbit is tracked backward
    assert number == 4
    assert b"<annotations>" in await download(page, "#annotations")
