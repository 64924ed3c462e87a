"""Draws, seeks and points on the page: `python -m scripts.page.interaction`.

Starts the service, opens a video of 854x480 pixels in headless Chromium, and measures how long a
click takes to become an outline, and how many pictures a second the page draws while a brush is
dragged over it and while the slider is dragged over the tracked video.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from playwright.async_api import Browser, Page, expect

from scripts.page.playback import HEIGHT, RATE, SHIPPED, WIDTH, film, track
from service.local.private_service import private_service
from tests.support.browser import open_page, running_browser
from tests.support.page import choose_tool, open_video

CLICKS = 10
# Milliseconds from a click to its outline on the overlay; each is taken back before the next one.
POINT = """async (places) => {
    const { bench } = await import("/web/page.js");
    const found = [];
    for (const points of places) {
        const begun = performance.now();
        await bench.desk.onTouch({ points, label: 1 });
        found.push(performance.now() - begun);
        bench.desk.onUndo();
    }
    return found;
}"""
# A brush that is held down follows a curve, a move for each picture of the screen.
DRAG = """async (seconds) => {
    const marks = document.getElementById("marks");
    const { left, top, width, height } = marks.getBoundingClientRect();
    const times = [];
    await new Promise((resolve) => requestAnimationFrame(function step(now) {
        times.push(now);
        if (now - times[0] > 1000 * seconds) return resolve();
        const turn = times.length / 12;
        const clientX = left + width * (0.5 + 0.4 * Math.sin(turn));
        const clientY = top + height * (0.5 + 0.4 * Math.sin(1.7 * turn));
        const facts = { pointerId: 1, pointerType: "mouse", clientX, clientY };
        marks.dispatchEvent(new PointerEvent("pointermove", facts));
        requestAnimationFrame(step);
    }));
    return times;
}"""
# The slider goes to another frame for each picture of the screen; `shown` are those that were seen.
SEEK = """async (seconds) => {
    const { bench } = await import("/web/page.js");
    const slider = document.getElementById("seek");
    const [times, shown] = [[], []];
    const paint = bench.viewer.paint.bind(bench.viewer);
    bench.viewer.paint = (n) => { shown.push(performance.now()); paint(n); };
    await new Promise((resolve) => requestAnimationFrame(function step(now) {
        times.push(now);
        if (now - times[0] > 1000 * seconds) return resolve();
        slider.value = (7 * times.length) % bench.source.count;
        slider.dispatchEvent(new Event("input"));
        requestAnimationFrame(step);
    }));
    bench.viewer.paint = paint;
    return [times, shown];
}"""


def rate(what: str, times: list[float]) -> str:
    """A line: how many pictures a second, and how long the longest was waited for."""
    gaps = np.diff(times)
    return (
        f"{what}: {1000 / gaps.mean():.1f} frames/s, between two frames p95"
        f" {np.percentile(gaps, 95):.0f} ms, longest {gaps.max():.0f} ms"
    )


async def drag(page: Page, seconds: float) -> list[float]:
    """When the screen was drawn while the brush was dragged."""
    await choose_tool(page, "brush")
    area = await page.locator("#marks").bounding_box()
    assert area is not None
    await page.mouse.move(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    await page.mouse.down()
    times = list(await page.evaluate(DRAG, seconds))
    await page.mouse.up()
    await page.click("#undo")
    return times


async def measure(browser: Browser, url: str, seconds: float) -> list[str]:
    """The lines of the report, of the service at `url`."""
    video = film(seconds)
    async with open_page(browser, url) as page:
        await expect(page.locator("#status")).to_contain_text("Then press Track")
        await open_video(page, "film.webm", video)
        await expect(page.locator("#counter")).to_have_text(f"1 / {round(seconds * RATE)}")
        places = [[0.25 * WIDTH + 9 * k, 0.5 * HEIGHT + 5 * k] for k in range(CLICKS)]
        first, *clicks = await page.evaluate(POINT, places)
        dragged = await drag(page, seconds)
        await track(page, video)
        times, shown = await page.evaluate(SEEK, seconds)
    return [
        f"{date.today()}, {platform.machine()}, {os.cpu_count()} processors,"
        f" load average {os.getloadavg()[0]:.1f}; {WIDTH}x{HEIGHT}",
        f"from a click to its outline: median {np.median(clicks):.0f} ms,"
        f" longest {max(clicks):.0f} ms; the first one {first:.0f} ms",
        rate("dragging a brush", dragged),
        rate("dragging the slider, the page", times),
        rate("dragging the slider, the video", shown),
    ]


async def main() -> None:
    """Runs it and prints the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of the video and each drag")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        private_service(Path(folder), settings=SHIPPED) as url,
    ):
        async with running_browser() as browser:
            print("\n".join(await measure(browser, url, given.seconds)))


if __name__ == "__main__":
    asyncio.run(main())
