"""Drawn pictures, masks and videos, written as the shared data is laid out."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.data.static import Still

HEIGHT, WIDTH = 72, 96


@dataclass(frozen=True, slots=True)
class OneStill:
    """Draws the same picture every time, and the same one for its kin, if it has any."""

    still: Still
    same_category: Still | None = None

    def draw_still(self, rng: np.random.Generator) -> Still:
        return self.still

    def draw_same_category(self, kind: str, rng: np.random.Generator) -> Still | None:
        return self.same_category


def draw_painted(*, bright: int = 235) -> Still:
    """A picture whose only object, a person, is bright on dark."""
    labels = (draw_labels() == 1).astype(np.uint8)
    image = np.where(labels[..., None], bright, 15).astype(np.uint8).repeat(3, axis=2)
    return Still(image, labels, ("person",))


def square(*, left: int, top: int, side: int, size: int = 64) -> NDArray[np.uint8]:
    """A square of ones in a mask of that size."""
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + side, left : left + side] = 1
    return mask


def plain(value: int, size: int = 64) -> NDArray[np.uint8]:
    """A picture of one gray level."""
    return np.full((size, size, 3), value, np.uint8)


def draw_picture(seed: int) -> NDArray[np.uint8]:
    """A textured picture, uint8 (HEIGHT, WIDTH, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (WIDTH, HEIGHT)), dtype=np.uint8)


def draw_labels(shift: int = 0) -> NDArray[np.uint8]:
    """Two instances that touch, 1 and 2, and a speck, 3."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[20:50, 20 + shift : 44 + shift] = 1
    labels[30:60, 44 + shift : 58 + shift] = 2
    labels[2:3, 2:4] = 3
    return labels


def write_jpeg(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), draw_picture(seed))


def write_palette(path: Path, labels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([value % 256 for value in range(0, 768 * 37, 37)])
    image.save(path)


def write_data(root: Path) -> Path:
    """Sets `ecssd` (0/255) and `coco` (instances); videos `walk` and `run`, and `kept` for dev.

    Below `extra` three videos with instances, one of them held out, and the instances of `walk`.
    """
    for index in range(3):
        for name, labels in (("coco", draw_labels()), ("ecssd", (draw_labels() == 1) * 255)):
            write_jpeg(root / "static" / name / f"{index}.jpg", seed=100 + index)
            write_palette(root / "static" / name / f"{index}.png", labels.astype(np.uint8))
    for name in ("walk", "run", "kept"):
        write_video(root / "video", name, length=12)
    for name in ("davis2017/snowboard", "davis2017/school", "ucsd/boats"):
        write_video(root / "extra", name, length=12, instances=True)
    for index in range(12):
        mask = root / "extra" / "davis2017_instances" / "walk" / "masks" / f"{index:05d}.png"
        write_palette(mask, draw_labels(shift=index))
    (root / "video" / "train.txt").write_text("walk\nrun\n")
    (root / "video" / "dev.txt").write_text("kept\n")
    return root


def write_video(root: Path, name: str, *, length: int, instances: bool = False) -> None:
    """A video whose masks are of one bit, or palettes of its instances."""
    for index in range(length):
        write_jpeg(root / name / "frames" / f"{index:05d}.jpg", seed=index)
        if instances:
            write_palette(root / name / "masks" / f"{index:05d}.png", draw_labels(shift=index))
            continue
        mask = Image.fromarray(draw_labels(shift=index) > 0)
        (root / name / "masks").mkdir(exist_ok=True)
        mask.save(root / name / "masks" / f"{index:05d}.png")
