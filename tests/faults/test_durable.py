"""Streams that commit at intervals, on a gateway that is killed with much that is not committed."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from tamvt_client import AsyncClient, ImageInput, Retry, SessionOptions
from tamvt_client.messages import StreamedMasks
from tamvt_client.stream import StreamMode
from tests.faults.gateways import gateways
from tests.service.stream.balancer import balanced
from tests.support import scene
from tests.support.browser import open_page
from tests.support.redis_servers import running_redis
from tests.support.running import PATIENCE_S, Running
from tests.support.small_models import SMALL_GRAPHS

pytestmark = pytest.mark.anyio
PATIENT_RETRY = Retry(attempts=40, first_s=0.05, most_s=0.5)
FRAMES = 60
LOST = 8  # frames that are answered and not committed when the gateway is killed
# Frames come unevenly, so that clips differ in length: else any gateway would cut the same ones.
PAUSES_S = (0.0, 0.01, 0.05, 0.0, 0.03)
BROWSER = """async (given) => {
    const { Client } = await import("/web/tamvt.js");
    const session = await new Client(given.url).open(given.id);
    window.mayEnd = new Promise((resolve) => { window.end = resolve; });
    window.found = [];
    const options = { maxWaitMs: 20, durableS: 5, retries: 40 };
    const stream = session.stream({ ...options, onMasks: (masks) => window.found.push(masks) });
    for (const [at, image] of given.images.entries()) {
        if (at === given.images.length - given.last) await window.mayEnd;
        const pause = 1000 * given.pauses[at % given.pauses.length];
        await new Promise((wake) => setTimeout(wake, pause));
        const data = await fetch(`data:image/jpeg;base64,${image}`);
        await stream.send(await data.blob());
    }
    await stream.end();
}"""


class Camera:
    """A session whose video is streamed with the Python client."""

    def __init__(
        self, client: AsyncClient, *, model: str, clip_length: int, mode: StreamMode = "lossless"
    ) -> None:
        self.client, self.mode = client, mode
        self.options = SessionOptions(model=model, clip_length=clip_length, memory_size=4)
        self.masks: list[StreamedMasks] = []
        self.may_end = asyncio.Event()
        self.session = ""

    async def start(self) -> None:
        """Starts the session."""
        frame, mask = scene.png(0, objects=2), scene.mask(objects=2)
        started = await self.client.start(frame, mask, options=self.options)
        self.session = started.session_id

    async def track(self) -> None:
        """Streams the video."""
        options: dict[str, Any] = {"mode": self.mode, "max_wait_ms": 20, "durable_s": 5}
        async for masks in self.client.stream(self.session, self._frames(), **options):
            self.masks.append(masks)

    async def found(self) -> list[StreamedMasks]:
        """The masks that came so far."""
        return self.masks

    async def end(self) -> None:
        """Lets the last frames come."""
        self.may_end.set()

    async def has_much_to_lose(self) -> None:
        """Nothing, once enough is answered that is not committed."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                committed = (await self.client.session(self.session)).next_frame - 1
                found = await self.found()
                if found and found[-1].frame - committed >= LOST:
                    return
                await asyncio.sleep(0.02)

    async def stored(self) -> Mapping[int, Any]:
        """The objects that are kept, by frame."""
        kept = [masks async for masks in self.client.masks(self.session, first=1)]
        return {masks.frame: masks.objects for masks in kept}

    async def _frames(self) -> AsyncIterator[ImageInput]:
        for number in range(1, FRAMES + 1):
            if number == FRAMES - LOST:
                await self.may_end.wait()
            await asyncio.sleep(PAUSES_S[number % len(PAUSES_S)])
            yield scene.jpeg(number, objects=2)


class BrowserCamera(Camera):
    """A session whose video is streamed with the browser client."""

    def __init__(self, client: AsyncClient, page: Page, url: str) -> None:
        super().__init__(client, model="tamvt-mobile", clip_length=3)
        self.page, self.url = page, url

    async def track(self) -> None:
        images = [scene.jpeg(number, objects=2) for number in range(1, FRAMES + 1)]
        given = {
            "url": self.url,
            "id": self.session,
            "images": [base64.b64encode(image).decode() for image in images],
            "pauses": PAUSES_S,
            "last": LOST,
        }
        await self.page.evaluate(BROWSER, given)

    async def found(self) -> list[StreamedMasks]:
        found = await self.page.evaluate("() => window.found ?? []")
        return [StreamedMasks.model_validate(masks) for masks in found]

    async def end(self) -> None:
        await self.page.evaluate("() => window.end()")


async def test_a_killed_gateway_takes_no_mask_back(
    tmp_path: Path, running: Running, chromium: Browser
) -> None:
    """What was answered is made again by another gateway: the same masks, each frame once."""
    settings = {"models": "tamvt-mobile,qmvos-mobile", "allowed_origins": running.url}
    with (
        running_redis(tmp_path) as redis,
        gateways(2, SMALL_GRAPHS, redis_url=redis.url, **settings) as pair,
    ):
        async with (
            balanced() as balancer,
            AsyncClient(balancer.url, retry=PATIENT_RETRY) as client,
            open_page(chromium, f"{running.url}/healthz", watched=False) as page,
        ):
            balancer.targets = [gateway.url for gateway in pair]
            cameras = [
                Camera(client, model="tamvt-mobile", clip_length=3),
                Camera(client, model="tamvt-mobile", clip_length=3, mode="latest"),
                Camera(client, model="qmvos-mobile", clip_length=1),  # it carries a state
                BrowserCamera(client, page, balancer.url),
            ]
            await asyncio.gather(*(camera.start() for camera in cameras))
            tasks = [asyncio.create_task(camera.track()) for camera in cameras]
            await asyncio.gather(*(camera.has_much_to_lose() for camera in cameras))
            pair[0].kill()
            await asyncio.gather(*(camera.end() for camera in cameras), *tasks)
            found = [await camera.found() for camera in cameras]
            stored = [await camera.stored() for camera in cameras]
    for camera, masks, kept in zip(cameras, found, stored, strict=True):
        told = {one.frame: one.objects for one in masks}
        assert len(told) == len(masks)
        assert told == {frame: kept[frame] for frame in told}
        assert list(kept) == list(range(1, FRAMES + 1))
        dropped = {frame for frame, objects in kept.items() if objects[0].state == "dropped"}
        assert dropped == set(kept) - set(told)
        assert bool(dropped) <= (camera.mode == "latest")
