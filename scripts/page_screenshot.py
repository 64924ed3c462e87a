"""Draws docs/images/page.png: `python -m scripts.page_screenshot`.

The page with the sample half tracked by the shipped model, in headless Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, expect

from tests.support.browser import PHONE, open_page, running_browser
from tests.support.running import running_service

TARGET = Path(__file__).parents[1] / "docs" / "images" / "page.png"
VIEW = {"width": 1240, "height": 760}


async def half_tracked(page: Page) -> bytes:
    """A picture of the page after some frames, as PNG."""
    await expect(page.locator("#suggest")).to_be_visible()
    await page.click("#suggest")
    await page.click("#primary")
    await expect(page.locator("#tracked")).to_have_text(re.compile(r"^[3-5]\d$"), timeout=60_000)
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    await page.mouse.move(0, 0)
    return await page.screenshot()


async def take(browser: Browser, url: str, *, phone: bool, dark: bool) -> bytes:
    """The picture, small: 256 colors."""
    async with open_page(
        browser,
        url,
        viewport=PHONE if phone else VIEW,
        color_scheme="dark" if dark else "light",
        is_mobile=phone,
    ) as page:
        shot = Image.open(io.BytesIO(await half_tracked(page))).convert("RGB")
    file = io.BytesIO()
    palette = shot.quantize(256, method=Image.Quantize.MEDIANCUT)
    shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(
        file, "PNG", optimize=True
    )
    return file.getvalue()


async def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET, help="where to write it")
    parser.add_argument("--phone", action="store_true", help="as on a phone")
    parser.add_argument("--dark", action="store_true", help="in dark colors")
    given = parser.parse_args()
    settings = {"TAMVT_MODEL": "tamvt-mobile", "TAMVT_WEIGHTS": ""}
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        with running_service(state=state, weights=state, settings=settings) as service:
            async with running_browser() as browser:
                picture = await take(browser, service.url, phone=given.phone, dark=given.dark)
    given.to.write_bytes(picture)


if __name__ == "__main__":
    asyncio.run(main())
