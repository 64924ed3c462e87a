"""Draws docs/images/ar.webp: `python -m scripts.page.ar`.

The AR example in headless Chromium, on a phone's screen, before a camera that shows a clip of the
page's gallery; the shipped model follows what was tapped.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
from pathlib import Path

from PIL import Image
from playwright.async_api import Page, expect

from scripts.page.playback import SHIPPED
from service.http.page import FOLDER
from service.local.private_service import private_service
from tests.support.browser import open_page, running_browser
from tests.support.pages import serve_folder
from tests.support.running import ROOT

TARGET = ROOT / "docs" / "images" / "ar.webp"
CLIP = next(
    each
    for each in json.loads((FOLDER / "gallery/gallery.json").read_text())
    if each["name"] == "three"
)
SCREEN = {"width": 640, "height": 420}
FOLLOWED = 20  # pictures that are seen before the photograph is taken
# A camera that stands still before the clip until `film.play()`.
CAMERA = """navigator.mediaDevices.getUserMedia = async () => {
  const film = Object.assign(document.createElement("video"), { muted: true, src: "VIDEO" });
  film.currentTime = START;
  await new Promise((resolve) => film.addEventListener("seeked", resolve, { once: true }));
  const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 360 });
  setInterval(() => canvas.getContext("2d").drawImage(film, 0, 0), 40);
  globalThis.film = film;
  return canvas.captureStream(25);
};"""
COUNT = """() => {
  globalThis.seen = 0;
  document.getElementById("view").addEventListener("shown", () => { globalThis.seen++; });
}"""


async def photograph(page: Page, address: str) -> bytes:
    """A picture of the page after it has followed the cup for a moment."""
    start = (CLIP["start"] + 0.5) / CLIP["rate"]
    camera = CAMERA.replace("VIDEO", "/film.webm").replace("START", str(start))
    await page.add_init_script(camera)
    await page.goto(address)
    await expect(page.locator("#status")).to_have_text("Tap on what is to be followed.")
    await page.evaluate(COUNT)
    cup = next(each for each in CLIP["objects"] if each["label"] == "Cup")
    x, y, _ = cup["points"][0]
    await page.locator("#view").click(position={"x": x, "y": y})
    await expect(page.locator("#status")).to_contain_text("behind the camera")
    await page.evaluate("() => { globalThis.film.playbackRate = 0.25; globalThis.film.play(); }")
    await page.wait_for_function(f"globalThis.seen >= {FOLLOWED}")
    return await page.screenshot()


async def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "page"
        files.mkdir()
        for file in (ROOT / "examples" / "ar").iterdir():
            (files / file.name).write_bytes(file.read_bytes())
        (files / "film.webm").write_bytes((FOLDER / CLIP["video"]).read_bytes())
        with serve_folder(files) as origin:
            settings = {**SHIPPED, "TAMVT_ALLOWED_ORIGINS": origin}
            with private_service(Path(folder) / "state", settings=settings) as url:
                async with (
                    running_browser() as browser,
                    open_page(browser, "about:blank", viewport=SCREEN) as page,
                ):
                    address = f"{origin}/index.html?service={url}"
                    shot = Image.open(io.BytesIO(await photograph(page, address)))
    shot.convert("RGB").save(TARGET, "WEBP", quality=82, method=6)


if __name__ == "__main__":
    asyncio.run(main())
