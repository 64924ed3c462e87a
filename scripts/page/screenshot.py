"""Draws docs/images/page.png: `python -m scripts.page.screenshot`; `--all DIR` draws every size.

The page with a clip of its gallery half tracked by the shipped model, in headless Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Page, expect

from scripts.page.playback import SHIPPED
from service.local.private_service import private_service
from tests.support.browser import open_page, running_browser

TARGET = Path(__file__).parents[2] / "docs" / "images" / "page.png"


@dataclass(frozen=True, slots=True)
class View:
    """A size of a window, and what is seen in it."""

    width: int
    height: int
    clip: str = "rabbit"
    effect: str = "none"
    dark: bool = False

    @property
    def name(self) -> str:
        """A file's name."""
        return f"page-{self.width}x{self.height}{'-dark' if self.dark else ''}.webp"


VIEWS = (
    View(1366, 768),
    View(1366, 768, clip="three", effect="dim", dark=True),
    View(1440, 900, clip="planet"),
    View(1920, 1080, clip="three", effect="gray"),
    View(390, 844),
    View(844, 390, clip="three"),
)


async def half_tracked(page: Page, effect: str) -> bytes:
    """A picture of the page after some frames, as PNG."""
    await page.click("#suggest")
    await expect(page.locator("#status")).to_contain_text("Press Track")
    await page.locator("#effect").select_option(effect)
    await page.click("#primary")
    await expect(page.locator("#tracked")).to_have_text(re.compile(r"^[2-9]\d$"), timeout=180_000)
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    await page.mouse.move(0, 0)
    return await page.screenshot()


async def take(browser: Browser, url: str, view: View) -> Image.Image:
    """The picture of the page in this view."""
    async with open_page(
        browser,
        f"{url}/#clip={view.clip}",
        viewport={"width": view.width, "height": view.height},
        color_scheme="dark" if view.dark else "light",
        is_mobile=min(view.width, view.height) < 500,
    ) as page:
        await expect(page.locator("#suggest")).to_be_visible()
        return Image.open(io.BytesIO(await half_tracked(page, view.effect))).convert("RGB")


def save(shot: Image.Image, path: Path) -> None:
    """Write it small: a WebP, or a PNG of 256 colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".webp":
        shot.save(path, quality=82, method=6)
        return
    palette = shot.quantize(256, method=Image.Quantize.MEDIANCUT)
    small = shot.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
    small.save(path, "PNG", optimize=True)


async def main() -> None:
    """Writes the picture, or one of each view."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=TARGET, help="where to write it")
    parser.add_argument("--all", type=Path, help="a folder for a picture of each size")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        private_service(Path(folder), settings=SHIPPED) as url,
    ):
        async with running_browser() as browser:
            for view in VIEWS if given.all else VIEWS[:1]:
                path = given.all / view.name if given.all else given.to
                save(await take(browser, url, view), path)


if __name__ == "__main__":
    asyncio.run(main())
