"""Readers of still pictures with masks: folders of `<id>.jpg` beside `<id>.png`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.data.errors import DataError

Pixels = NDArray[np.uint8]

# How often each set is drawn. COCO has several instances a picture, thus distractors.
SET_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "coco": 0.38,
        "ecssd": 0.24,
        "icoseg": 0.12,
        "coco_person": 0.08,
        "ccp": 0.06,
        "humanseg": 0.06,
        "voc2007": 0.06,
    }
)


@dataclass(frozen=True, slots=True)
class StillPaths:
    """Where one labelled picture lies."""

    image: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class Still:
    """One picture: image uint8 (H, W, 3) RGB, labels uint8 (H, W), 0 = background."""

    image: Pixels
    labels: Pixels


def list_stills(folder: Path) -> tuple[StillPaths, ...]:
    """Every `<id>.jpg` of `folder` that has a mask `<id>.png`, sorted; none is a DataError."""
    if not folder.is_dir():
        raise DataError(f"there is no folder of pictures at {folder}")
    masks = {path.stem: path for path in folder.glob("*.png")}
    images = sorted(path for path in folder.glob("*.jpg"))
    stills = tuple(StillPaths(path, masks[path.stem]) for path in images if path.stem in masks)
    if not stills:
        raise DataError(f"no picture with a mask (<id>.jpg beside <id>.png) in {folder}")
    return stills


def read_still(paths: StillPaths) -> Still:
    """The picture with the instance labels of its mask (a 0/255 mask holds one, labelled 255)."""
    still = Still(read_rgb(paths.image), read_labels(paths.mask))
    if still.image.shape[:2] != still.labels.shape:
        raise DataError(
            f"{paths.mask} is {still.labels.shape} but its picture is {still.image.shape[:2]}"
        )
    return still


def read_rgb(path: Path) -> Pixels:
    """The picture at `path`, uint8 (H, W, 3) RGB."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise DataError(f"cannot read the picture {path}")
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def read_labels(path: Path) -> Pixels:
    """The indices of a palette, gray or 1-bit PNG, uint8 (H, W); 1-bit gives 0 and 1."""
    # OpenCV turns a palette into colours and loses the indices; Pillow keeps them.
    try:
        with Image.open(path) as image:
            if image.mode not in {"1", "L", "P"}:
                raise DataError(f"{path} is no mask: its mode is {image.mode}, not P, L or 1")
            return np.array(image, dtype=np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"cannot read the mask {path}") from error


def pick_object(labels: Pixels, rng: np.random.Generator, *, min_share: float) -> Pixels | None:
    """One instance as uint8 {0, 1} (H, W), larger ones somewhat likelier, or None.

    Only instances of at least `min_share` of the picture count. Now and then an instance is
    united with one that touches it, as DAVIS 2016 unites rider and horse.
    """
    areas = np.bincount(labels.reshape(-1), minlength=256).astype(np.float64) / labels.size
    areas[0] = 0.0
    candidates = np.flatnonzero(areas >= min_share)
    if not candidates.size:
        return None
    weights = np.sqrt(areas[candidates])
    chosen = int(rng.choice(candidates, p=weights / weights.sum()))
    mask = (labels == chosen).astype(np.uint8)
    return _unite_with_neighbour(mask, labels) if rng.random() < 0.2 else mask


def _unite_with_neighbour(mask: Pixels, labels: Pixels) -> Pixels:
    """`mask` with the instance that shares the longest border with it, if there is one."""
    near = cv2.dilate(mask, np.ones((5, 5), np.uint8)) > mask
    counts = np.bincount(labels[near], minlength=256)
    counts[0] = 0
    neighbour = int(counts.argmax())
    if counts[neighbour] < 20:
        return mask
    return np.asarray(mask | (labels == neighbour), dtype=np.uint8)
