"""Draws what the reports of training and evaluation look like: `python -m scripts.report_pictures`.

It writes docs/images/report.webp and rows.webp of three clips of the page's gallery, whose true
masks are known, tracked by the shipped model. With `--weights CHECKPOINT` also time.svg and
attention.webp, what `tamvt-model visualize` shows of a checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from model.core.palette import write_label_map
from scripts.page.scenes import SCENES
from service.media.images import encode_jpeg
from tests.support.browser import open_page, running_browser

IMAGES = Path(__file__).parents[1] / "docs" / "images"
CLIPS = ("planet", "three", "emblem")
WIDEST = 900


def write_videos(root: Path) -> None:
    """Write the clips as `tamvt-model` reads them: `<name>/{frames,masks}` and `dev.txt`."""
    for scene in SCENES:
        if scene.name not in CLIPS:
            continue
        for kind in ("frames", "masks"):
            (root / scene.name / kind).mkdir(parents=True)
        for number, (picture, labels) in enumerate(scene.draw()):
            (root / scene.name / f"frames/{number:05d}.jpg").write_bytes(encode_jpeg(picture))
            (root / scene.name / f"masks/{number:05d}.png").write_bytes(write_label_map(labels))
    (root / "dev.txt").write_text("\n".join(CLIPS))


def run_model(*words: str) -> None:
    """Run `tamvt-model` with these words."""
    subprocess.run([sys.executable, "-m", "model", *words], check=True)


async def photograph(report: Path) -> Image.Image:
    """Return the beginning of a report as a browser shows it."""
    view = {"width": 1000, "height": 1300}
    async with (
        running_browser() as browser,
        open_page(browser, report.as_uri(), viewport=view) as page,
    ):
        return Image.open(io.BytesIO(await page.screenshot())).convert("RGB")


def save(image: Image.Image, name: str) -> None:
    """Write a picture small."""
    image.thumbnail((WIDEST, 4 * WIDEST))
    image.save(IMAGES / name, "WEBP", quality=82, method=6)


def main() -> None:
    """Draw them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", help="a checkpoint, for the table of time and the attention")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "videos", Path(folder) / "out"
        root.mkdir()
        write_videos(root)
        run_model("evaluate", "--root", str(root), "-o", str(out))
        save(asyncio.run(photograph(out / "report.html")), "report.webp")
        run_model("visualize", "rows", "--root", str(root), "-o", str(out))
        save(Image.open(out / "rows.png").convert("RGB"), "rows.webp")
        if given.weights:
            words = ["--weights", given.weights, "--root", str(root), "--videos", "three"]
            run_model("visualize", "time", "attention", *words, "-o", str(out))
            (IMAGES / "time.svg").write_text((out / "time.svg").read_text())
            save(Image.open(out / "attention-three.png").convert("RGB"), "attention.webp")


if __name__ == "__main__":
    main()
