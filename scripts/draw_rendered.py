"""Draw docs/images/rendered.webp: `python -m scripts.draw_rendered`.

Four clips that `tamvt-model data render --noise-only --seed 1` makes, a row each: five of their
frames, every object outlined in its color of DAVIS's palette.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.core.palette import davis_palette
from model.data.rendered.clips import RenderConfig, choose_scene
from model.data.rendered.renderer import Renderer
from model.data.rendered.sampler import SceneSampler

TARGET = Path(__file__).parents[1] / "docs" / "images" / "rendered.webp"
CLIPS = (5, 7, 9, 11)
MOMENTS = (0, 6, 12, 17, 23)
SHOWN = (320, 180)  # width and height of a frame


def draw_cell(frame: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a frame (H, W, 3), smaller, its objects outlined."""
    cell = np.ascontiguousarray(cv2.resize(frame, SHOWN, interpolation=cv2.INTER_AREA))
    small = cv2.resize(labels, SHOWN, interpolation=cv2.INTER_NEAREST)
    palette = davis_palette()
    for label in np.setdiff1d(small, [0]):
        shape = (small == label).astype(np.uint8)
        edges, _ = cv2.findContours(shape, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(cell, edges, -1, [int(c) for c in palette[label]], 1)
    return np.asarray(cell, np.uint8)


def main() -> None:
    """Render the clips, and write the picture."""
    config, sampler = RenderConfig(seed=1), SceneSampler()
    rows = []
    with Renderer(height=config.height, width=config.width) as renderer:
        for index in CLIPS:
            scene = choose_scene(renderer, sampler, config, index)
            pairs = zip(*renderer.render(scene, MOMENTS), strict=True)
            rows.append(np.hstack([draw_cell(frame, labels) for frame, labels in pairs]))
    Image.fromarray(np.vstack(rows)).save(TARGET, quality=82, method=6)
    print(f"wrote {TARGET}")


if __name__ == "__main__":
    main()
