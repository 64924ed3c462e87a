"""The JavaScript client in docs/stream.md runs as it is written, in real Chromium."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.service.web.test_tamvt import IMAGES, video

pytestmark = pytest.mark.anyio

RunJs = Callable[..., Awaitable[Any]]
DOCUMENT = Path(__file__).parents[3] / "docs" / "stream.md"


async def test_the_documents_client_gets_the_masks_of_every_frame(run_js: RunJs) -> None:
    [client] = re.findall(r"```js\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    code = f"""async (tamvt, given) => {{
        {IMAGES}
        {client}
        const frames = [];
        const rest = images.slice(1);
        const code = await track(location.origin, session.id, rest, (masks) => frames.push(masks));
        return [code, frames.map((masks) => [masks.frame, masks.objects[0].area])];
    }}"""
    closed, frames = await run_js(code, video(12))
    assert closed == 1000
    assert [frame for frame, _ in frames] == list(range(1, 12))
    assert all(area > 900 for _, area in frames)
