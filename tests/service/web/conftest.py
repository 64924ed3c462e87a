"""One page of the running service's origin, in which the browser's modules can be called."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from playwright.async_api import Browser

from tests.support.browser import open_page
from tests.support.running import Running

RunJs = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="session")
async def run_js(chromium: Browser, running: Running) -> AsyncIterator[RunJs]:
    """Runs `async (tamvt, given) => ...` with a module of the page (the client by default)."""
    # A refused request is an error in the console too: some of these tests ask for one.
    async with open_page(chromium, f"{running.url}/healthz", watched=False) as page:

        async def run(code: str, given: object = None, *, module: str = "tamvt.js") -> Any:
            script = f"""async (given) => {{
                const module = await import("/web/{module}");
                return ({code})(module, given);
            }}"""
            return await page.evaluate(script, given)

        yield run
