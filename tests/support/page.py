"""What a person does on the page: draw, track, save. `page` is open on the sample or on files."""

from __future__ import annotations

import io
import zipfile

import anyio
import numpy as np
from numpy.typing import NDArray
from playwright.async_api import FilePayload, Page, expect

from model.core.image_headers import ImageLimits
from model.core.palette import read_label_map
from tests.support.browser import PATIENCE_MS

FRAMES = 60  # of the sample
CUP = 6  # the object that it begins with
SAMPLE = "/#clip=cup"  # the page's address that opens it
# In the page: whoever asks from outside may come when all frames are tracked.
PAUSE_SOON = """() => {
    const [button, tracked] = ["primary", "tracked"].map((id) => document.getElementById(id));
    const observer = new MutationObserver(() => {
        if (!/^\\d+$/.test(tracked.textContent)) return;
        observer.disconnect();
        button.click();
    });
    observer.observe(tracked, { childList: true });
}"""


async def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where on the screen the pixel x, y of the picture is."""
    area = await page.locator("#marks").bounding_box()
    size = await page.locator("#picture").evaluate("(canvas) => [canvas.width, canvas.height]")
    assert area is not None
    return (
        area["x"] + (x + 0.5) * area["width"] / size[0],
        area["y"] + (y + 0.5) * area["height"] / size[1],
    )


async def paint(page: Page, *points: tuple[float, float]) -> None:
    """One stroke of the pointer through these pixels."""
    await page.mouse.move(*await place(page, *points[0]))
    await page.mouse.down()
    for point in points[1:]:
        await page.mouse.move(*await place(page, *point), steps=4)
    await page.mouse.up()


async def choose_tool(page: Page, name: str) -> None:
    """Takes a tool: point, spare, box, polygon, brush or eraser."""
    await page.locator(f"[name=tool][value={name}]").check()


async def begin_at(page: Page, number: int) -> None:
    """Paints over the cup in a later frame: what is left of the sample is tracked sooner."""
    await page.locator("#seek").fill(str(number))
    await expect(page.locator("#counter")).to_have_text(f"{number + 1} / {FRAMES}")
    await choose_tool(page, "brush")
    await paint(page, (200, 180), (320, 200), (420, 220))


async def track(page: Page) -> None:
    """Presses the button, and waits until all frames are tracked."""
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("All frames are tracked")


async def pause(page: Page) -> int:
    """Presses the button, and again once there are masks; the number of the frame shown."""
    await page.evaluate(PAUSE_SOON)
    await page.click("#primary")
    await expect(page.locator("#primary")).to_have_text("Continue")
    return await shown(page)


async def shown(page: Page) -> int:
    """The number of the frame that is shown, from 0."""
    return int(await page.locator("#seek").input_value())


async def labels(page: Page) -> NDArray[np.uint8]:
    """The ids that are painted over the picture, uint8 (H, W) of the picture's own size."""
    read = """async () => {
        const { bench } = await import("/web/page.js");
        const [height, width] = bench.source.size;
        const labels = bench.labelsAt(bench.shown) ?? new Uint8Array(height * width);
        return [height, width, Array.from(labels, (id) => String.fromCharCode(id)).join("")];
    }"""
    height, width, text = await page.evaluate(read)
    return np.frombuffer(text.encode("latin-1"), np.uint8).reshape(height, width)


async def painted(page: Page, x: float, y: float) -> list[int]:
    """The color over the pixel x, y of the picture: red, green, blue, alpha."""
    read = """(canvas, [x, y]) => {
        const dots = canvas.width / canvas.clientWidth;
        return [...canvas.getContext("2d").getImageData(x * dots, y * dots, 1, 1).data];
    }"""
    area = await page.locator("#overlay").bounding_box()
    assert area is not None
    left, top = await place(page, x, y)
    color = await page.locator("#overlay").evaluate(read, [left - area["x"], top - area["y"]])
    return [int(value) for value in color]


async def download(page: Page, button: str) -> bytes:
    """What the browser saves when the button is pressed."""
    async with page.expect_download(timeout=PATIENCE_MS) as waiting:
        await page.click(button)
    return await anyio.Path(await (await waiting.value).path()).read_bytes()


async def zipped_masks(page: Page) -> dict[str, NDArray[np.uint8]]:
    """The label maps in the ZIP that the page downloads, by name."""
    with zipfile.ZipFile(io.BytesIO(await download(page, "#zip"))) as archive:
        return {
            name: read_label_map(archive.read(name), ImageLimits()) for name in archive.namelist()
        }


async def open_video(page: Page, name: str, data: bytes) -> None:
    video = FilePayload(name=name, mimeType="video/mp4", buffer=data)
    await page.locator("#video-file").set_input_files(video)


async def open_images(page: Page, **images: bytes) -> None:
    """Chooses these files, by name. A folder cannot be handed over from memory; its files can."""
    await page.locator("#image-files").evaluate("(input) => { input.webkitdirectory = false; }")
    await page.locator("#image-files").set_input_files(
        [FilePayload(name=name, mimeType="image/png", buffer=data) for name, data in images.items()]
    )
