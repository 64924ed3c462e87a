"""The page on a service that asks for a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from service.access.key_stores import KeyFile
from service.access.keys import make_key
from tests.support.browser import open_page
from tests.support.running import running_service

pytestmark = pytest.mark.anyio


async def test_a_person_gives_the_key_once(
    chromium: Browser, tmp_path: Path, toy_folder: Path
) -> None:
    text, kept = make_key("ann", ["read", "write"])
    await KeyFile(tmp_path / "keys.json").put(kept)
    settings = {"TAMVT_KEYS": str(tmp_path / "keys.json")}
    with running_service(
        state=tmp_path / "state", weights=toy_folder, settings=settings
    ) as service:
        # The browser itself notes each 401 on its console.
        async with open_page(chromium, service.url, watched=False) as page:
            dialog = page.locator("dialog.ask")
            await expect(dialog).to_contain_text("asks for a key")
            await dialog.locator("input").fill("tamvt_0123456789ab_wrong")
            await dialog.locator("input").press("Enter")
            await expect(dialog).to_contain_text("does not take this key")
            await dialog.locator("input").fill(text)
            await dialog.get_by_role("button").click()
            await expect(dialog).to_have_count(0)
            await expect(page.locator("#model")).to_contain_text("toy")
            assert text not in page.url
            await page.reload()
            await expect(page.locator("#model")).to_contain_text("toy")
            await expect(dialog).to_have_count(0)
