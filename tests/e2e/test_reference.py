"""The reference at /docs in real Chromium."""

from __future__ import annotations

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import PHONE, open_page
from tests.support.running import Api, Running

pytestmark = pytest.mark.anyio


async def test_every_call_and_message_is_shown_without_a_foreign_host(
    chromium: Browser, running: Running, api: Api
) -> None:
    described = api.http.get("/openapi.json").json()
    hosts: set[str] = set()
    async with open_page(chromium, "about:blank", viewport=PHONE) as page:
        page.on("request", lambda request: hosts.add(httpx.URL(request.url).netloc.decode()))
        await page.goto(f"{running.url}/docs")
        await expect(page.locator("#stream")).to_be_attached()
        for path, calls in described["paths"].items():
            for method, operation in calls.items():
                section = page.locator(f'[id="{operation["operationId"]}"]')
                await expect(section.locator("h3")).to_have_text(f"{method.upper()}{path}")
        answer = page.locator("#append_frames_v1_sessions__session_id__clips_post")
        await answer.get_by_text("AppendedOut").click()
        await answer.get_by_text("FrameMasksOut", exact=True).last.click()
        await expect(answer.locator("details details table")).to_contain_text("objects")
        stream = page.locator("#stream")
        await stream.get_by_text("StatsMessage").click()
        await expect(stream).to_contain_text("frames_per_s")
        for bounds in ("at least 0, at most 4294967295", "characters at most 100"):
            await expect(stream).to_contain_text(bounds)
        await expect(answer).to_contain_text("at least 0, below 9007199254740992")
        wide = await page.evaluate("document.documentElement.scrollWidth")
        assert wide <= PHONE["width"]
    assert hosts == {httpx.URL(running.url).netloc.decode()}


async def test_a_description_that_does_not_come_is_told(
    chromium: Browser, running: Running
) -> None:
    async with open_page(chromium, "about:blank", watched=False) as page:
        await page.route("**/openapi.json", lambda route: route.abort())
        await page.goto(f"{running.url}/docs")
        await expect(page.locator("#status")).to_contain_text("cannot be read")
