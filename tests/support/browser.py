"""A real Chromium: the one installed, driven by Playwright, which downloads none."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, async_playwright, expect

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A camera that shows a green face, which a page may use without asking.
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
DESKTOP = {"width": 1280, "height": 820}
PHONE = {"width": 390, "height": 780}

PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Run Chromium without a window; raise FileNotFoundError, which names its package."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        raise FileNotFoundError("no Chromium here: install the package chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=list(FLAGS), timeout=PATIENCE_MS
        )
        yield browser
        await browser.close()


@asynccontextmanager
async def open_page(
    browser: Browser, url: str, *, watched: bool = True, **context: Any
) -> AsyncIterator[Page]:
    """Open a page with an empty profile; `watched` fails at the end if its code has failed."""
    options = {"viewport": DESKTOP, "reduced_motion": "reduce", **context}
    profile = await browser.new_context(**options)
    profile.set_default_timeout(PATIENCE_MS)
    page = await profile.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("console", lambda line: failures.append(line.text) if line.type == "error" else None)
    try:
        await page.goto(url)
        yield page
    finally:
        await profile.close()
    assert not watched or failures == []
