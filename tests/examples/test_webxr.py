"""The WebXR example in real Chromium, on glasses that iwer emulates, before a drawn world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import open_page
from tests.support.pages import serve_folder
from tests.support.running import ROOT, running_service

pytestmark = pytest.mark.anyio

WEBXR = ROOT / "examples" / "webxr"
VIEWPORT = {"width": 320, "height": 240}
SCRIPTS = [ROOT / "tests" / "support" / name for name in ("iwer.min.js", "webxr_world.js")]


@pytest.fixture(scope="module")
def address(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on a server of its own, and a service that lets it in."""
    with serve_folder(WEBXR) as origin:
        state = tmp_path_factory.mktemp("webxr")
        allowed = {"TAMVT_ALLOWED_ORIGINS": origin}
        with running_service(state=state, weights=toy_folder, settings=allowed) as service:
            yield f"{origin}/index.html?service={service.url}&distance=2&fov=60"


async def follow(page: Page, address: str, *, moving: bool) -> list[dict[str, float]]:
    """Open the page, select the square, and return what was drawn of it."""
    await page.add_init_script("\n".join(path.read_text() for path in SCRIPTS))
    await page.goto(address)
    await page.click("#begin")
    await expect(page.locator("#status")).to_have_text(
        "Point at what is to be followed, and select it."
    )
    await page.evaluate("world.select()")
    await expect(page.locator("#status")).to_contain_text("ms behind")
    await page.evaluate("(moving) => world.watch(moving)", moving)
    await page.wait_for_function("world.found.length >= 40")
    return list(await page.evaluate("world.found"))


async def test_a_mask_stays_on_what_it_shows_while_the_head_turns(
    chromium: Browser, address: str
) -> None:
    async with open_page(chromium, "about:blank", viewport=VIEWPORT) as page:
        found = await follow(page, f"{address}&camera", moving=True)
    worst = max(each["off"] for each in found)
    assert worst < 6
    assert max(each["straight"] for each in found) > 2 * worst
    assert min(each["count"] for each in found) > 500


async def test_a_camera_of_the_device_serves_where_the_view_has_none(
    chromium: Browser, address: str
) -> None:
    async with open_page(chromium, "about:blank", viewport=VIEWPORT) as page:
        found = await follow(page, address, moving=False)
    assert max(each["off"] for each in found) < 4
    assert min(each["count"] for each in found) > 500


async def test_without_augmented_reality_the_page_says_so(chromium: Browser, address: str) -> None:
    async with open_page(chromium, address) as page:
        await expect(page.locator("#status")).to_contain_text("has no augmented reality")
        await expect(page.locator("#begin")).to_be_disabled()
