"""The page as a person uses it: real Chromium, the real service, pointer, keys and files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anyio
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.async_api import Browser, Page, expect

from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from tests.support import scene
from tests.support.browser import PHONE, open_page
from tests.support.page import (
    CUP,
    FRAMES,
    SAMPLE,
    begin_at,
    choose_tool,
    labels,
    open_images,
    paint,
    pause,
    place,
    shown,
    track,
    zipped_masks,
)
from tests.support.running import PATIENCE_S, Running

pytestmark = pytest.mark.anyio

WEB = Path(__file__).parents[2] / "service" / "web"
COUNT_PAINTS = """
globalThis.paints = 0;
const draw = CanvasRenderingContext2D.prototype.drawImage;
CanvasRenderingContext2D.prototype.drawImage = function (...given) {
    globalThis.paints++;
    draw.apply(this, given);
};
"""
NOTE_LABELS = """() => {
    const button = document.getElementById("play");
    globalThis.labels = [];
    const note = () => globalThis.labels.push(button.getAttribute("aria-label"));
    new MutationObserver(note).observe(button, { attributeFilter: ["aria-label"] });
}"""
RELOAD_SOON = """() => {
    const status = document.getElementById("status");
    const observer = new MutationObserver(() => {
        if (!status.textContent.includes("frames to go")) return;
        observer.disconnect();
        location.reload();
    });
    observer.observe(status, { childList: true });
}"""
PLAYED = """() => globalThis.labels.includes("Pause") && globalThis.labels.at(-1) === "Play" """
# Over the cup in the sample's first frame, in its pixels.
STROKE = ((120, 200), (175, 210), (200, 240), (140, 130), (240, 220), (170, 270))


def outline() -> NDArray[np.bool_]:
    """The true outline of the cup in the sample's first frame."""
    return decode_rle(json.loads((WEB / "sample.json").read_text())["object"]["rle"])


async def test_a_mask_drawn_with_the_pointer_is_tracked_through_the_sample(page: Page) -> None:
    await paint(page, *STROKE)
    await track(page)
    assert await shown(page) == FRAMES - 1
    assert (await labels(page)).any()
    await expect(page.locator("#tracked")).to_have_text(str(FRAMES - 1))


async def test_the_zip_holds_what_was_drawn_and_a_mask_of_every_frame(page: Page) -> None:
    await begin_at(page, 48)
    drawn = await labels(page) > 0
    await track(page)
    masks = await zipped_masks(page)
    assert list(masks) == [f"{number:05d}.png" for number in range(48, FRAMES)]
    assert np.array_equal(masks["00048.png"] == CUP, drawn)
    assert all((mask == CUP).any() for mask in masks.values())


async def test_the_overlay_shows_the_masks_that_the_service_keeps(page: Page) -> None:
    await begin_at(page, 48)
    await track(page)
    masks = await zipped_masks(page)
    for number in (48, 51, FRAMES - 1):
        await page.locator("#seek").fill(str(number))
        await expect(page.locator("#counter")).to_have_text(f"{number + 1} / {FRAMES}")
        assert np.array_equal(await labels(page) > 0, masks[f"{number:05d}.png"] > 0)


async def test_a_correction_is_kept_and_tracking_goes_on_from_it(page: Page) -> None:
    await begin_at(page, 36)
    paused = await pause(page)
    assert paused < FRAMES - 1
    await choose_tool(page, "eraser")
    await page.locator("#size").fill("80")
    await paint(page, (20, 20), (20, 340), (620, 340), (620, 20))
    await choose_tool(page, "brush")
    await paint(page, (300, 20), (380, 20))
    drawn = await labels(page) > 0
    await expect(page.locator("#primary")).to_have_text("Correct and continue")
    await track(page)
    corrected = (await zipped_masks(page))[f"{paused:05d}.png"]
    assert np.array_equal(corrected == CUP, drawn)


async def test_an_object_can_be_added_while_paused(page: Page) -> None:
    await begin_at(page, 36)
    paused = await pause(page)
    await page.click("#add")
    await paint(page, (560, 40), (600, 60))
    await track(page)
    masks = await zipped_masks(page)
    assert (masks[f"{paused:05d}.png"] == 1).any()
    assert not (masks["00036.png"] == 1).any()


async def test_a_reload_comes_back_to_the_frame_and_goes_on(page: Page) -> None:
    await begin_at(page, 36)
    paused = await pause(page)
    before = await labels(page)
    await page.reload()
    await expect(page.locator("#status")).to_contain_text("Back where you were")
    assert await shown(page) == paused
    assert np.array_equal(await labels(page), before)
    await track(page)
    assert len(await zipped_masks(page)) == FRAMES - 36


async def test_a_reload_while_it_tracks_goes_on_by_itself(page: Page) -> None:
    await begin_at(page, 20)
    await page.evaluate(RELOAD_SOON)
    async with page.expect_event("load"):
        await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("All frames are tracked")
    assert len(await zipped_masks(page)) == FRAMES - 20
    await page.reload()  # nothing is left to go on with
    await expect(page.locator("#status")).to_contain_text("Back where you were")


async def test_a_session_that_is_gone_is_said_to_be(chromium: Browser, running: Running) -> None:
    # The refused request is an error in the console.
    async with open_page(chromium, f"{running.url}{SAMPLE}", watched=False) as page:
        await begin_at(page, 54)
        await track(page)
        session = page.url.partition("#session=")[2]
        async with httpx.AsyncClient(base_url=running.url, timeout=PATIENCE_S) as http:
            (await http.delete(f"/v1/sessions/{session}")).raise_for_status()
        await page.reload()
        await expect(page.locator("#status")).to_contain_text("expired")
        await expect(page.locator("#suggest")).to_be_visible()


async def test_starting_over_while_tracking_leaves_nothing_behind(page: Page) -> None:
    await begin_at(page, 10)
    async with page.expect_websocket() as opened:
        await page.click("#primary")
    ended = anyio.Event()
    (await opened.value).once("close", lambda _: ended.set())
    await expect(page.locator("#tracked")).to_have_text(re.compile(r"^\d+$"))
    await page.click("#restart")
    await ended.wait()  # the stream that was left behind says nothing when it ends
    await expect(page.locator("#status")).to_contain_text("Then press Track")
    await expect(page.locator("#tracked")).not_to_contain_text(re.compile(r"\d"))
    assert not (await labels(page)).any()
    await begin_at(page, 54)
    await track(page)
    assert len(await zipped_masks(page)) == FRAMES - 54


async def test_playing_paints_each_frame_once_however_often(
    chromium: Browser, running: Running
) -> None:
    async with open_page(chromium, "about:blank") as page:
        await page.add_init_script(COUNT_PAINTS)
        await page.goto(f"{running.url}{SAMPLE}")
        await begin_at(page, 48)
        await track(page)
        for _ in range(2):
            await page.locator("#seek").fill("48")
            await expect(page.locator("#counter")).to_have_text(f"49 / {FRAMES}")
            await page.evaluate("() => { globalThis.paints = 0; }")
            await page.evaluate(NOTE_LABELS)
            await page.click("#play")
            await page.wait_for_function(PLAYED)
            assert await shown(page) == FRAMES - 1
            assert 1 <= await page.evaluate("() => globalThis.paints") <= FRAMES - 48 + 2


# The slider goes through the video in one go; how many frames were sought, and how many were seen.
DRAG = """async () => {
    const { bench } = await import("/web/page.js");
    const slider = document.getElementById("seek");
    const { source, viewer } = bench;
    const [sought, seen] = [[], []];
    const [picture, paint] = [source.picture, viewer.paint];
    source.picture = (n) => { sought.push(n); return picture.call(source, n); };
    viewer.paint = (n) => { seen.push(n); paint.call(viewer, n); };
    for (let n = 1; n < source.count; n++) {
        slider.value = n;
        slider.dispatchEvent(new Event("input"));
        if (n % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await viewer.show(source.count - 1);
    return [sought, seen];
}"""


async def test_a_slider_that_is_dragged_seeks_what_can_be_seen_and_shows_it(page: Page) -> None:
    sought, seen = await page.evaluate(DRAG)
    assert 2 <= len(sought) <= 10
    assert sought == seen  # none in vain
    assert sought[-1] == FRAMES - 1
    assert await shown(page) == FRAMES - 1


async def test_a_box_becomes_the_outline_of_what_is_in_it(page: Page) -> None:
    await choose_tool(page, "box")
    truth = outline()
    x, y, width, height = cv2.boundingRect(truth.view(np.uint8))
    await paint(page, (x - 5, y - 5), (x + width + 5, y + height + 5))
    await expect(page.locator("#status")).to_contain_text("Click what is missing")
    assert jaccard(await labels(page) > 0, truth) > 0.95


async def test_a_polygon_can_be_drawn_with_the_keyboard_alone(page: Page) -> None:
    await page.locator("#marks").focus()
    await page.keyboard.press("p")
    for keys in (["Shift+ArrowUp"] * 3, ["Shift+ArrowRight"] * 5, ["Shift+ArrowDown"] * 4):
        for key in keys:
            await page.keyboard.press(key)
        await page.keyboard.press("Space")
    await page.keyboard.press("Enter")
    assert 2000 < np.count_nonzero(await labels(page)) < 6000
    await expect(page.locator("#primary")).to_be_enabled()


async def test_undo_takes_back_one_stroke(page: Page) -> None:
    await paint(page, (100, 100), (150, 100))
    before = await labels(page)
    await paint(page, (400, 300), (450, 300))
    await page.click("#undo")
    assert np.array_equal(await labels(page), before)


async def test_where_no_websocket_passes_requests_take_its_place(
    chromium: Browser, running: Running
) -> None:
    async with open_page(chromium, "about:blank") as page:
        await page.add_init_script("WebSocket = class { constructor() { throw Error('blocked') } }")
        await page.goto(f"{running.url}{SAMPLE}")
        await begin_at(page, 50)
        await track(page)
        assert len(await zipped_masks(page)) == FRAMES - 50


# In the page: what waits for seconds waits for a twentieth of them.
HURRY = """() => {
    const real = setTimeout;
    globalThis.setTimeout = (act, ms, ...rest) => real(act, ms > 2500 ? ms / 20 : ms, ...rest);
}"""
NEVER = "() => new Promise(() => {})"


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (f"createImageBitmap = {NEVER}", "Copying a picture took more than 20 seconds"),
        (f"OffscreenCanvas.prototype.convertToBlob = {NEVER}", "Encoding a picture took more"),
        ("HTMLMediaElement.prototype.addEventListener = () => {}", "Looking for a frame of cup"),
        ("IDBFactory.prototype.open = () => ({})", "Done"),
    ],
)
async def test_a_browser_that_never_answers_is_not_waited_for(
    page: Page, broken: str, said: str
) -> None:
    await begin_at(page, 54)
    await page.evaluate(HURRY)
    await page.evaluate(f"() => {{ {broken}; }}")
    await page.click("#primary")
    await expect(page.locator("#status")).to_contain_text(said)


async def test_what_was_lost_is_said_and_shown_and_never_called_done(page: Page) -> None:
    images = {f"{number}.png": scene.png(number) for number in range(10)}
    empty = scene.encode(np.full_like(scene.picture(0), scene.FLOOR[0]), ".png")
    images |= dict.fromkeys(("3.png", "4.png", "5.png", "8.png"), empty)
    await open_images(page, **images)
    await paint(page, (24, 24), (26, 26))
    await track(page)
    status = page.locator("#status")
    await expect(status).to_contain_text("Object 1 was lost in 4 of 10 frames")
    await expect(status).not_to_contain_text("Done")
    spots = page.locator("#spots button")
    await expect(spots).to_have_text(["Object 1 lost: 4 to 6", "Object 1 lost: frame 9"])
    await spots.last.click()
    await expect(page.locator("#counter")).to_have_text("9 / 10")


async def test_the_camera_is_tracked_live_and_can_be_played(page: Page) -> None:
    await page.get_by_role("button", name="Camera").click()
    await page.get_by_role("button", name="Take the first picture").click()
    await expect(page.locator("#status")).to_contain_text("Then press Track")
    await paint(page, (100, 100), (300, 300))
    await page.click("#primary")
    await expect(page.locator("#tracked")).to_have_text(re.compile(r"^\d{2,}$"))
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    await page.locator("#seek").fill("0")
    await expect(page.locator("#counter")).to_contain_text("1 / ")
    assert (await labels(page)).any()


async def test_the_page_asks_nobody_but_the_service(chromium: Browser, running: Running) -> None:
    asked: set[str] = set()
    async with open_page(chromium, "about:blank") as page:
        page.on("request", lambda request: asked.add(request.url))
        await page.goto(f"{running.url}{SAMPLE}")
        await begin_at(page, 54)
        await track(page)
    foreign = {url for url in asked if not url.startswith((running.url, f"blob:{running.url}"))}
    assert foreign == set()


async def test_it_fits_a_phone_and_is_drawn_on_by_touch(
    chromium: Browser, running: Running
) -> None:
    async with open_page(
        chromium, f"{running.url}{SAMPLE}", viewport=PHONE, is_mobile=True, has_touch=True
    ) as page:
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        await page.touchscreen.tap(*await place(page, 180, 180))
        await expect(page.locator("#primary")).to_be_enabled()
        widths = await page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert widths == [PHONE["width"], PHONE["width"]]
        assert (await labels(page)).any()


async def test_every_control_has_a_name(page: Page) -> None:
    await page.click("#suggest")
    await expect(page.locator("#primary")).to_be_enabled()
    await page.click("#add")
    tree = await page.locator("body").aria_snapshot()
    roles = "button|textbox|slider|radio|checkbox|combobox|link|img|application"
    unnamed = re.findall(rf"^ *- (?:{roles})(?: \[.*\])?:?$", tree, re.MULTILINE)
    assert unnamed == []
    assert 'slider "Frame"' in tree
