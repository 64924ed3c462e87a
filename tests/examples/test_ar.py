"""The AR example in real Chromium, whose camera is a drawn one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import open_page
from tests.support.pages import serve_folder
from tests.support.running import ROOT, running_service

pytestmark = pytest.mark.anyio

AR = ROOT / "examples" / "ar"
# A camera of a red square that moves over gray, 128 by 96 pixels, instead of the device's.
CAMERA = """navigator.mediaDevices.getUserMedia = async () => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 128, height: 96 });
  const context = canvas.getContext("2d");
  let step = 0;
  const draw = () => {
    context.fillStyle = "rgb(128 128 128)";
    context.fillRect(0, 0, 128, 96);
    context.fillStyle = "rgb(220 40 40)";
    context.fillRect(8 + (step++ % 64), 8, 32, 32);
  };
  draw();
  setInterval(draw, 100);
  return canvas.captureStream(10);
};"""


@pytest.fixture(scope="module")
def address(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page on a server of its own, and a service that lets it in."""
    with serve_folder(AR) as origin:
        state = tmp_path_factory.mktemp("ar")
        allowed = {"TAMVT_ALLOWED_ORIGINS": origin}
        with running_service(state=state, weights=toy_folder, settings=allowed) as service:
            yield f"{origin}/index.html?service={service.url}"


async def test_each_mask_is_drawn_on_the_picture_of_its_time_stamp(
    chromium: Browser, address: str
) -> None:
    async with open_page(chromium, "about:blank") as page:
        await page.add_init_script(CAMERA)
        await page.goto(address)
        await expect(page.locator("#status")).to_have_text("Tap on what is to be followed.")
        # Where a mask lies beside its square, red stays red or gray turns green.
        await page.evaluate(
            """() => {
            const view = document.getElementById("view");
            window.shares = [];
            view.addEventListener("shown", () => {
              const { data } = view.getContext("2d").getImageData(0, 0, 128, 96);
              let [square, tinted, beside] = [0, 0, 0];
              for (let at = 0; at < data.length; at += 4) {
                const [red, green] = [data[at], data[at + 1]];
                const inSquare = red > 175;
                square += inSquare;
                tinted += inSquare && green > 110;
                beside += !inSquare && green > 165;
              }
              window.shares.push([square, tinted, beside]);
            });
            }"""
        )
        box: Any = await page.locator("#view").bounding_box()
        scale = min(box["width"] / 128, box["height"] / 96)
        left = (box["width"] - 128 * scale) / 2
        await page.locator("#view").click(position={"x": left + 40 * scale, "y": 24 * scale})
        await expect(page.locator("#status")).to_contain_text("behind the camera")
        await page.wait_for_function("window.shares.length >= 6")
        shares = await page.evaluate("window.shares")
    for square, tinted, beside in shares:
        assert square > 700
        assert tinted / square > 0.8
        assert beside / square < 0.2


async def test_without_a_camera_the_page_says_so(chromium: Browser, address: str) -> None:
    async with open_page(chromium, "about:blank") as page:
        await page.add_init_script("delete MediaDevices.prototype.getUserMedia")
        await page.goto(address)
        await expect(page.locator("#status")).to_contain_text("There is no camera")
