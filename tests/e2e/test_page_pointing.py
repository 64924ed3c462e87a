"""Pointing, correcting any frame and tracking both ways on the page: real Chromium and service."""

from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from playwright.async_api import Browser, Page, expect

from model.core.encoding import decode_rle
from model.core.j_and_f import jaccard
from tests.support import scene
from tests.support.browser import open_page
from tests.support.page import (
    CUP,
    FRAMES,
    begin_at,
    choose_tool,
    download,
    labels,
    open_images,
    paint,
    painted,
    place,
    shown,
    track,
    zipped_masks,
)
from tests.support.running import Running

pytestmark = pytest.mark.anyio

# In the page: whoever asks from outside may come when all frames are tracked.
PAUSE_ON_THE_WAY = """() => {
    const observer = new MutationObserver(([{ target }]) => {
        if (!target.textContent.includes("frames to go")) return;
        observer.disconnect();
        document.getElementById("primary").click();
    });
    observer.observe(document.getElementById("status"), { childList: true });
}"""
WEB = Path(__file__).parents[2] / "service" / "web"


async def click(page: Page, x: float, y: float) -> None:
    """Click on a pixel of the picture, and wait for what it means."""
    await page.mouse.click(*await place(page, x, y))
    await expect(page.locator("#status")).to_contain_text("Click what is missing")


async def seek(page: Page, number: int) -> None:
    await page.locator("#seek").fill(str(number))
    await expect(page.locator("#counter")).to_contain_text(f"{number + 1} / ")


async def test_a_click_becomes_an_outline_and_another_tool_takes_it_away(page: Page) -> None:
    truth = decode_rle(json.loads((WEB / "sample.json").read_text())["object"]["rle"])
    await choose_tool(page, "point")
    await click(page, 175, 250)
    assert jaccard(await labels(page) > 0, truth) > 0.9
    first = await labels(page)
    await choose_tool(page, "spare")
    async with page.expect_response("**/v1/masks/refine"):
        await page.mouse.click(*await place(page, 175, 180))
    await expect(page.locator("#primary")).to_be_enabled()
    assert (await labels(page)).sum() < first.sum()
    await page.click("#undo")
    assert np.array_equal(await labels(page), first)
    await page.click("#redo")
    assert (await labels(page)).sum() < first.sum()
    await page.click("#undo")
    await page.click("#undo")
    assert not (await labels(page)).any()
    await expect(page.locator("#primary")).to_be_disabled()


async def test_a_stroke_points_and_paints_only_when_asked_to(page: Page) -> None:
    await choose_tool(page, "point")
    await paint(page, (120, 190), (175, 250), (220, 200))
    await expect(page.locator("#status")).to_contain_text("Click what is missing")
    assert (await labels(page) > 0).sum() > 15_000  # the whole cup, not a line over it


async def test_where_nothing_stands_out_it_is_said_and_nothing_is_lost(
    chromium: Browser, running: Running
) -> None:
    async with open_page(chromium, running.url, watched=False) as page:  # a refusal is logged
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        plain = scene.encode(np.full((96, 128, 3), 128, np.uint8), ".png")
        await open_images(page, **{"plain.png": plain})
        await expect(page.locator("#counter")).to_have_text("1 / 1")
        await page.mouse.click(*await place(page, 60, 40))
        await expect(page.locator("#status")).to_contain_text("Nothing stands out there")
        assert not (await labels(page)).any()


async def test_a_mask_in_pieces_is_warned_of(page: Page) -> None:
    await paint(page, (100, 100), (150, 100))
    await paint(page, (400, 300), (450, 300))
    await expect(page.locator("#status")).to_contain_text("in 2 pieces")


async def test_a_frame_in_the_middle_is_corrected_and_the_correction_taken_back(
    page: Page,
) -> None:
    await begin_at(page, 44)
    await track(page)
    before = await zipped_masks(page)
    await seek(page, 50)
    await choose_tool(page, "eraser")
    await page.locator("#size").fill("80")
    await paint(page, (20, 20), (20, 340), (320, 180), (620, 340), (620, 20))
    await choose_tool(page, "brush")
    await paint(page, (300, 40), (380, 40))
    drawn = await labels(page) > 0
    await expect(page.locator("#primary")).to_have_text("Track on from here")
    await track(page)
    after = await zipped_masks(page)
    assert list(after) == list(before)
    assert all(np.array_equal(after[f"000{n}.png"], before[f"000{n}.png"]) for n in range(44, 50))
    assert np.array_equal(after["00050.png"] == CUP, drawn)
    assert not np.array_equal(after["00059.png"], before["00059.png"])
    await page.click("#undo")
    await expect(page.locator("#status")).to_contain_text("taken back")
    restored = await zipped_masks(page)
    assert all(np.array_equal(restored[name], mask) for name, mask in before.items())


async def test_a_correction_that_changes_nothing_is_said_to(page: Page) -> None:
    await begin_at(page, 58)
    await track(page)
    drawn = await labels(page) > 0
    rows, columns = np.nonzero(drawn)
    middle = len(rows) // 2
    await page.locator("#size").fill("2")
    await paint(page, (columns[middle], rows[middle]), (columns[middle], rows[middle]))
    assert np.array_equal(await labels(page) > 0, drawn)
    await page.click("#primary")
    await expect(page.locator("#status")).to_contain_text("The drawing is as the mask was")


async def test_the_old_masks_stay_until_the_new_ones_are_there(page: Page) -> None:
    await begin_at(page, 30)
    await track(page)
    await seek(page, 32)
    await paint(page, (560, 40), (600, 40))
    await page.evaluate(PAUSE_ON_THE_WAY)
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    paused = await shown(page)
    assert paused < FRAMES - 1
    assert list(await zipped_masks(page)) == [f"{n:05d}.png" for n in range(30, FRAMES)]
    await page.reload()
    await expect(page.locator("#status")).to_contain_text("Back where you were")
    assert await shown(page) == paused


async def test_a_video_is_tracked_both_ways_from_a_frame_in_the_middle(page: Page) -> None:
    images = {f"{number}.png": scene.png(number) for number in range(12)}
    await open_images(page, **images)
    await seek(page, 6)
    await choose_tool(page, "point")
    await click(page, 8 + 2 * 6 + 10, 20)
    await page.locator("#both").check()
    await track(page)
    masks = await zipped_masks(page)
    assert set(masks) == {f"{number}.png" for number in range(12)}
    for number in (0, 3, 11):
        assert jaccard(masks[f"{number}.png"] == 1, scene.labels(number) == 1) > 0.8
    # A frame before the one that was drawn is corrected backward, and nothing else changes.
    await seek(page, 4)
    await click(page, 8 + 2 * 4 + 10, 20)
    await expect(page.locator("#status")).to_contain_text("Then press Track on from here.")
    await page.click("#undo")
    await choose_tool(page, "brush")
    await paint(page, (100, 80), (104, 80))
    await expect(page.locator("#primary")).to_have_text("Track on from here")
    await track(page)
    after = await zipped_masks(page)
    assert (after["4.png"] == 1)[80, 102]
    assert all(np.array_equal(after[f"{n}.png"], masks[f"{n}.png"]) for n in range(5, 12))
    await page.reload()
    await expect(page.locator("#status")).to_contain_text("Back where you were")
    again = await zipped_masks(page)
    assert all(np.array_equal(again[name], mask) for name, mask in after.items())


async def test_objects_are_hidden_recolored_and_locked(page: Page) -> None:
    await paint(page, (200, 200), (240, 200))
    await page.get_by_label("Color of Cup").fill("#ff0000")
    red, green, _, alpha = await painted(page, 220, 200)
    assert red > 200
    assert green < 60
    assert alpha > 40
    await page.get_by_label("Hide Cup").click()
    assert (await painted(page, 220, 200))[3] == 0
    await page.get_by_label("Hide Cup").click()
    await page.get_by_label("Lock Cup").click()
    before = await labels(page)
    await page.click("#add")
    await paint(page, (220, 150), (220, 250))
    after = await labels(page)
    assert np.array_equal(after == CUP, before == CUP)
    assert (after == 1).any()


async def test_the_wheel_zooms_where_it_is_and_the_pen_follows(page: Page) -> None:
    x, y = await place(page, 160, 90)
    await page.mouse.move(x, y)
    await page.mouse.wheel(0, -400)
    await page.locator("#size").fill("4")
    await page.mouse.click(x, y)
    rows, columns = np.nonzero(await labels(page))
    assert abs(columns.mean() - 160) < 2
    assert abs(rows.mean() - 90) < 2
    zoom = await page.evaluate("async () => (await import('/web/page.js')).bench.viewer.stage.zoom")
    assert 2 < zoom < 4
    await page.click("#zoom-fit")
    await expect(page.locator("#picture")).to_have_css("transform", "none")


async def test_the_background_can_be_taken_away(page: Page) -> None:
    await paint(page, (200, 200), (240, 200))
    assert (await painted(page, 500, 60))[3] == 0
    await page.locator("#effect").select_option("cutout")
    assert await painted(page, 500, 60) == [21, 25, 26, 255]
    assert (await painted(page, 220, 200))[3] < 255


@pytest.mark.parametrize("encoder", [True, False])
async def test_the_objects_alone_can_be_downloaded_as_a_video_with_alpha(
    page: Page, encoder: bool
) -> None:
    if not encoder:
        await page.evaluate("() => { delete globalThis.VideoEncoder; }")
    await begin_at(page, 56)
    await track(page)
    await page.locator("#format").select_option("alpha")
    data = await download(page, "#annotations")
    assert b"\x53\xc0\x81\x01" in data  # WebM's AlphaMode is 1
    decoder = av.CodecContext.create("libvpx-vp9", "r")  # the native one knows no alpha
    with av.open(io.BytesIO(data), "r") as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        frames = [frame for packet in packets for frame in decoder.decode(packet)]
    opaque = [frame.to_ndarray(format="rgba")[..., 3] > 127 for frame in frames]
    assert len(opaque) == 4 if encoder else len(opaque) >= 2
    masks = list((await zipped_masks(page)).values())
    assert jaccard(opaque[0], masks[0] > 0) > 0.9
    assert jaccard(opaque[-1], masks[-1] > 0) > 0.9
