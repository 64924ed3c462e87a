"""The page as a person uses it: real Chromium, the real service, pointer, keys and files."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import av
import cv2
import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from playwright.async_api import Browser, FilePayload, Page, expect

from model.core.encoding import decode_rle
from model.core.image_headers import ImageLimits
from model.core.j_and_f import jaccard
from model.core.palette import read_label_map
from tests.support import scene
from tests.support.browser import PATIENCE_MS, PHONE, open_page
from tests.support.running import PATIENCE_S, Running

pytestmark = pytest.mark.anyio

FRAMES = 60
CUP = 6
WEB = Path(__file__).parents[2] / "service" / "web"
COUNT_PAINTS = """
globalThis.paints = 0;
const put = CanvasRenderingContext2D.prototype.putImageData;
CanvasRenderingContext2D.prototype.putImageData = function (...given) {
    globalThis.paints++;
    put.apply(this, given);
};
"""
# In the page: whoever asks from outside may come when all frames are tracked.
PAUSE_SOON = """() => {
    const [button, tracked] = ["primary", "tracked"].map((id) => document.getElementById(id));
    const observer = new MutationObserver(() => {
        if (!/^\\d+$/.test(tracked.textContent)) return;
        observer.disconnect();
        button.click();
    });
    observer.observe(tracked, { childList: true });
}"""
NOTE_LABELS = """() => {
    const button = document.getElementById("play");
    globalThis.labels = [];
    const note = () => globalThis.labels.push(button.getAttribute("aria-label"));
    new MutationObserver(note).observe(button, { attributeFilter: ["aria-label"] });
}"""
PLAYED = """() => globalThis.labels.includes("Pause") && globalThis.labels.at(-1) === "Play" """
# Over the cup in the sample's first frame, in its pixels.
STROKE = ((120, 200), (175, 210), (200, 240), (140, 130), (240, 220), (170, 270))


@pytest.fixture
async def page(chromium: Browser, running: Running) -> AsyncIterator[Page]:
    """The page with its sample."""
    async with open_page(chromium, running.url) as opened:
        await expect(opened.locator("#seek")).to_be_enabled()
        await expect(opened.locator("#status")).to_contain_text("Then press Track")
        yield opened


async def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen the pixel x, y of the picture is."""
    area = await page.locator("#marks").bounding_box()
    size = await page.locator("#picture").evaluate("(canvas) => [canvas.width, canvas.height]")
    assert area is not None
    return (
        area["x"] + (x + 0.5) * area["width"] / size[0],
        area["y"] + (y + 0.5) * area["height"] / size[1],
    )


async def paint(page: Page, *points: tuple[float, float]) -> None:
    """One stroke of the pointer through these pixels."""
    await page.mouse.move(*await place(page, *points[0]))
    await page.mouse.down()
    for point in points[1:]:
        await page.mouse.move(*await place(page, *point), steps=4)
    await page.mouse.up()


async def begin_at(page: Page, number: int) -> None:
    """Paints over the cup in a later frame: what is left of the sample is tracked sooner."""
    await page.locator("#seek").fill(str(number))
    await expect(page.locator("#counter")).to_have_text(f"{number + 1} / {FRAMES}")
    await paint(page, (200, 180), (320, 200), (420, 220))


async def track(page: Page) -> None:
    """Presses the button, and waits until all frames are tracked."""
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("All frames are tracked")


async def pause(page: Page) -> int:
    """Presses the button, and again once there are masks; the number of the frame shown."""
    await page.evaluate(PAUSE_SOON)
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    return await shown(page)


async def shown(page: Page) -> int:
    """The number of the frame that is shown, from 0."""
    return int(await page.locator("#seek").input_value())


async def labels(page: Page) -> NDArray[np.uint8]:
    """What is painted over the picture: 255 where any object is, (H, W)."""
    read = """(canvas) => {
        const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.height, canvas.width, pixels.filter((_, k) => k % 4 === 3)
            .reduce((text, alpha) => text + (alpha ? "1" : "0"), "")];
    }"""
    height, width, text = await page.locator("#overlay").evaluate(read)
    seen = np.frombuffer(text.encode(), np.uint8).reshape(height, width)
    return np.where(seen == ord("1"), 255, 0).astype(np.uint8)


async def download(page: Page, button: str) -> bytes:
    """What the browser saves when the button is pressed."""
    async with page.expect_download(timeout=PATIENCE_MS) as waiting:
        await page.click(button)
    return await anyio.Path(await (await waiting.value).path()).read_bytes()


async def zipped_masks(page: Page) -> dict[str, NDArray[np.uint8]]:
    """The label maps in the ZIP that the page downloads, by name."""
    with zipfile.ZipFile(io.BytesIO(await download(page, "#zip"))) as archive:
        return {
            name: read_label_map(archive.read(name), ImageLimits()) for name in archive.namelist()
        }


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
    assert list(masks) == [f"{number:05d}.png" for number in range(FRAMES - 48)]
    assert np.array_equal(masks["00000.png"] == CUP, drawn)
    assert all((mask == CUP).any() for mask in masks.values())


async def test_the_overlay_shows_the_masks_that_the_service_keeps(page: Page) -> None:
    await begin_at(page, 48)
    await track(page)
    masks = await zipped_masks(page)
    for number in (48, 51, FRAMES - 1):
        await page.locator("#seek").fill(str(number))
        await expect(page.locator("#counter")).to_have_text(f"{number + 1} / {FRAMES}")
        assert np.array_equal(await labels(page) > 0, masks[f"{number - 48:05d}.png"] > 0)


async def test_a_correction_is_kept_and_tracking_goes_on_from_it(page: Page) -> None:
    await begin_at(page, 36)
    paused = await pause(page)
    assert paused < FRAMES - 1
    await page.locator("[name=tool][value=eraser]").check()
    await page.locator("#size").fill("80")
    await paint(page, (20, 20), (20, 340), (620, 340), (620, 20))
    await page.locator("[name=tool][value=brush]").check()
    await paint(page, (300, 20), (380, 20))
    drawn = await labels(page) > 0
    await expect(page.locator("#primary")).to_have_text("Correct and continue")
    await track(page)
    corrected = (await zipped_masks(page))[f"{paused - 36:05d}.png"]
    assert np.array_equal(corrected == CUP, drawn)


async def test_an_object_can_be_added_while_paused(page: Page) -> None:
    await begin_at(page, 36)
    paused = await pause(page)
    await page.click("#add")
    await paint(page, (560, 40), (600, 60))
    await track(page)
    masks = await zipped_masks(page)
    assert (masks[f"{paused - 36:05d}.png"] == 1).any()
    assert not (masks["00000.png"] == 1).any()


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


async def test_a_session_that_is_gone_is_said_to_be(chromium: Browser, running: Running) -> None:
    # The refused request is an error in the console.
    async with open_page(chromium, running.url, watched=False) as page:
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
        await page.goto(running.url)
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


async def test_a_box_becomes_the_outline_of_what_is_in_it(page: Page) -> None:
    await page.locator("[name=tool][value=box]").check()
    truth = outline()
    x, y, width, height = cv2.boundingRect(truth.view(np.uint8))
    await paint(page, (x - 5, y - 5), (x + width + 5, y + height + 5))
    await expect(page.locator("#status")).to_contain_text("correct the outline")
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


async def test_the_coco_file_names_the_object_in_every_frame(page: Page) -> None:
    await begin_at(page, 48)
    drawn = await labels(page) > 0
    await page.get_by_label("Name of object 6").fill("Espresso")
    await track(page)
    coco = json.loads(await download(page, "#coco"))
    assert coco["categories"] == [{"id": CUP, "name": "Espresso"}]
    assert len(coco["images"]) == FRAMES - 48
    first = coco["annotations"][0]
    assert np.array_equal(decode_rle(first["segmentation"]), drawn)


async def test_the_overlay_video_can_be_downloaded(page: Page) -> None:
    await begin_at(page, 54)
    await track(page)
    with av.open(io.BytesIO(await download(page, "#film")), "r") as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert set(sizes) == {(640, 360)}
    assert len(sizes) >= 3


async def test_where_no_websocket_passes_requests_take_its_place(
    chromium: Browser, running: Running
) -> None:
    async with open_page(chromium, "about:blank") as page:
        await page.add_init_script("WebSocket = class { constructor() { throw Error('blocked') } }")
        await page.goto(running.url)
        await begin_at(page, 50)
        await track(page)
        assert len(await zipped_masks(page)) == FRAMES - 50


async def test_a_video_file_is_tracked(page: Page) -> None:
    film = scene.video(range(12), kind="webm")
    video = FilePayload(name="square.webm", mimeType="video/webm", buffer=film)
    await page.locator("#video-file").set_input_files(video)
    await expect(page.locator("#counter")).to_have_text("1 / 12")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    assert len(masks) == 12
    assert jaccard(masks["00011.png"] == 1, scene.labels(11) == 1) > 0.8


async def test_images_are_tracked_in_the_order_of_their_names(page: Page) -> None:
    images = [
        FilePayload(name=f"{number}.png", mimeType="image/png", buffer=scene.png(number))
        for number in (10, 2, 0)
    ]
    # A folder cannot be handed to the browser from memory; its files can.
    await page.locator("#image-files").evaluate("(input) => { input.webkitdirectory = false; }")
    await page.locator("#image-files").set_input_files(images)
    await expect(page.locator("#counter")).to_have_text("1 / 3")
    await paint(page, (24, 24), (26, 26))
    await track(page)
    masks = await zipped_masks(page)
    assert jaccard(masks["00002.png"] == 1, scene.labels(10) == 1) > 0.8


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
        await page.goto(running.url)
        await begin_at(page, 54)
        await track(page)
    foreign = {url for url in asked if not url.startswith((running.url, f"blob:{running.url}"))}
    assert foreign == set()


async def test_it_fits_a_phone_and_is_drawn_on_by_touch(
    chromium: Browser, running: Running
) -> None:
    async with open_page(
        chromium, running.url, viewport=PHONE, is_mobile=True, has_touch=True
    ) as page:
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        await page.touchscreen.tap(*await place(page, 180, 180))
        await expect(page.locator("#primary")).to_be_enabled()
        widths = await page.evaluate("() => [document.documentElement.scrollWidth, innerWidth]")
        assert widths == [PHONE["width"], PHONE["width"]]
        assert (await labels(page)).any()


async def test_every_control_has_a_name(page: Page) -> None:
    await page.click("#suggest")
    await page.click("#add")
    tree = await page.locator("body").aria_snapshot()
    roles = "button|textbox|slider|radio|checkbox|link|img|application"
    unnamed = re.findall(rf"^ *- (?:{roles})(?: \[.*\])?:?$", tree, re.MULTILINE)
    assert unnamed == []
    assert 'slider "Frame"' in tree
