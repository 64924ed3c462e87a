"""The page in real Chromium, on the running service."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import open_page
from tests.support.page import SAMPLE, choose_tool
from tests.support.running import Running


@pytest.fixture
async def page(chromium: Browser, running: Running) -> AsyncIterator[Page]:
    """The page with the cup, and the brush in hand."""
    async with open_page(chromium, f"{running.url}{SAMPLE}") as opened:
        await expect(opened.locator("#seek")).to_be_enabled()
        await expect(opened.locator("#status")).to_contain_text("Then press Track")
        await choose_tool(opened, "brush")
        yield opened
