"""Plays stored masks over a video in the page: `python -m scripts.page.playback`.

Starts the service, tracks an object through a video of 854x480 pixels at 30 frames/s in headless
Chromium, then plays it in real time and counts the frames whose masks were painted.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import os
import platform
import tempfile
from datetime import date
from pathlib import Path

import av
import cv2
import numpy as np
from playwright.async_api import Browser, FilePayload, Page, expect

from service.local.private_service import private_service
from service.media.sample import draw_sample
from tests.support.browser import open_page, running_browser

SHIPPED = {"TAMVT_MODEL": "tamvt-mobile", "TAMVT_WEIGHTS": ""}  # whatever the caller has set
RATE = 30
REPEATS = 100
HEIGHT, WIDTH = 480, 854
# Notes when each overlay was painted, for how long, and of which frame.
COUNT_PAINTS = """async () => {
    const { bench } = await import("/web/page.js");
    const paint = bench.viewer.paint.bind(bench.viewer);
    globalThis.paints = [];
    bench.viewer.paint = (n) => {
        const begun = performance.now();
        paint(n);
        globalThis.paints.push([begun, performance.now() - begun, bench.shown]);
    };
}"""

# Milliseconds from the stored run lengths to painted outlines, on the frame that is shown.
TIME_PAINTING = """async (repeats) => {
    const { bench } = await import("/web/page.js");
    const begun = performance.now();
    for (let k = 0; k < repeats; k++) bench.viewer.paint();
    return (performance.now() - begun) / repeats;
}"""


def film(seconds: float) -> bytes:
    """The built-in sample, enlarged, there and back again, as WebM (VP9)."""
    pictures = [
        cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
        for picture, _ in draw_sample()
    ]
    file = io.BytesIO()
    with av.open(file, "w", format="webm") as container:
        options = {"g": "15", "cpu-used": "6", "deadline": "realtime"}
        stream = container.add_stream("libvpx-vp9", rate=RATE, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.bit_rate = 2_000_000
        there_and_back = itertools.cycle([*pictures, *pictures[-2:0:-1]])
        for picture in itertools.islice(there_and_back, round(seconds * RATE)):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


async def track(page: Page, video: bytes) -> None:
    """Tracks the cup through the video, to its end."""
    payload = FilePayload(name="film.webm", mimeType="video/webm", buffer=video)
    await page.locator("#video-file").set_input_files(payload)
    await expect(page.locator("#status")).to_contain_text("Then press Track")
    await page.locator("[name=tool][value=box]").check()
    area = await page.locator("#marks").bounding_box()
    assert area is not None
    await page.mouse.move(area["x"] + 0.07 * area["width"], area["y"] + 0.2 * area["height"])
    await page.mouse.down()
    await page.mouse.move(area["x"] + 0.46 * area["width"], area["y"] + 0.83 * area["height"])
    await page.mouse.up()
    await expect(page.locator("#status")).to_contain_text("Click what is missing")
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("All frames are tracked", timeout=600_000)


async def play(page: Page) -> list[list[float]]:
    """When each frame's masks were painted, for how long, and its number: one run of the video."""
    await page.evaluate("() => { globalThis.paints.length = 0; }")
    await page.click("#play")
    await expect(page.locator("#play")).to_have_attribute("data-playing", "")
    await expect(page.locator("#play")).not_to_have_attribute("data-playing", "", timeout=120_000)
    paints: list[list[float]] = await page.evaluate("() => globalThis.paints")
    return [[float(value) for value in paint] for paint in paints]


def report(paints: list[list[float]], frames: int) -> str:
    """The run in a few lines."""
    begun, _, numbers = np.array(paints).T
    seconds = (begun[-1] - begun[0]) / 1000
    gaps = np.diff(begun)
    seen = len(set(numbers))
    return "\n".join(
        (
            f"{date.today()}, {platform.machine()}, {os.cpu_count()} processors,"
            f" load average {os.getloadavg()[0]:.1f}",
            f"{WIDTH}x{HEIGHT} at {RATE} frames/s: {seen} of {frames} frames painted"
            f" in {seconds:.2f} s, {(seen - 1) / seconds:.1f} frames/s",
            f"between frames: median {np.median(gaps):.1f} ms,"
            f" p95 {np.percentile(gaps, 95):.1f} ms, longest {gaps.max():.0f} ms",
        )
    )


async def measure(browser: Browser, url: str, seconds: float) -> str:
    """The report of one run against the service at `url`."""
    async with open_page(browser, url) as page:
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        await page.evaluate(COUNT_PAINTS)
        await track(page, film(seconds))
        await play(page)  # the first run warms up the decoder
        found = report(await play(page), round(seconds * RATE))
        painting = await page.evaluate(TIME_PAINTING, REPEATS)
        return f"{found}\nfrom run lengths to pixels: {painting:.1f} ms a frame"


async def main() -> None:
    """Runs it and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of the video")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        private_service(Path(folder), settings=SHIPPED) as url,
    ):
        async with running_browser() as browser:
            print(await measure(browser, url, given.seconds))


if __name__ == "__main__":
    asyncio.run(main())
