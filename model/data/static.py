"""Readers of still pictures with masks: folders of `<id>.jpg` beside `<id>.png`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.core.image_headers import ImageLimits, PixelError
from model.core.masks import MaskError
from model.core.palette import read_label_map
from model.data.errors import DataError

Pixels = NDArray[np.uint8]

# How often each set is drawn. COCO has several instances a picture, thus distractors.
SET_WEIGHTS: Mapping[str, float] = MappingProxyType(
    {
        "coco": 0.27,
        "ecssd": 0.17,
        "icoseg": 0.085,
        "coco_person": 0.057,
        "ccp": 0.043,
        "humanseg": 0.043,
        "voc2007": 0.043,
        "voc_animals": 0.249,
        "davis17_first": 0.04,
    }
)
# What `tamvt-mobile` was first trained on.
FIRST_SETS = ("coco", "ecssd", "icoseg", "coco_person", "ccp", "humanseg", "voc2007")


ANY_SIZE = ImageLimits(max_bytes=2**31, max_width=2**16, max_height=2**16)
PERSON = "person"
PERSON_SETS = frozenset(("coco_person", "ccp", "humanseg"))
MIN_INSTANCE = 0.004  # of its picture; smaller instances are too coarse to follow
_HUGE, _LARGE = 0.7, 0.2  # of its picture: what is no object, anywhere or on three borders


@dataclass(frozen=True, slots=True)
class StillPaths:
    """Where one labeled picture lies, and of what kind its instances 1, 2, ... are, if known."""

    image: Path
    mask: Path
    kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Still:
    """One picture: image uint8 (H, W, 3) RGB, labels uint8 (H, W), 0 = background.

    `kinds` are those of the labels 1, 2, ..., as far as they are known.
    """

    image: Pixels
    labels: Pixels
    kinds: tuple[str, ...] = ()

    def find_kind(self, label: int) -> str | None:
        """Return what the label shows, or None where that is not known."""
        return self.kinds[label - 1] if 0 < label <= len(self.kinds) else None


class Instance(NamedTuple):
    """The mask of one object, uint8 {0, 1} (H, W), and its kind, if known."""

    mask: Pixels
    kind: str | None


def list_stills(folder: Path) -> tuple[StillPaths, ...]:
    """Return every `<id>.jpg` of `folder` that has a mask `<id>.png`, sorted.

    Raise DataError for none.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder of pictures at {folder}")
    masks = {path.stem: path for path in folder.glob("*.png")}
    images = sorted(path for path in folder.glob("*.jpg") if not path.name.startswith("."))
    kinds = list_kinds(folder)
    stills = tuple(
        StillPaths(path, masks[path.stem], kinds.get(path.stem, ()))
        for path in images
        if path.stem in masks
    )
    if not stills:
        raise DataError(f"no picture with a mask (<id>.jpg beside <id>.png) in {folder}")
    return stills


def list_kinds(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what each picture `<id>` of a set of the shared data shows, as far as known.

    COCO's are in `<set>_categories.json` beside the folder, largest instance first; iCoseg's
    pictures show the same thing where their names begin alike; some sets show persons only.
    """
    if folder.name in PERSON_SETS:
        return {path.stem: (PERSON,) * 255 for path in folder.glob("*.jpg")}
    if folder.name == "icoseg":
        stems = [path.stem for path in folder.glob("*.jpg")]
        return {stem: (f"icoseg {stem.split('_')[0]}",) * 255 for stem in stems}
    path = folder.with_name(f"{folder.name}_categories.json")
    if not path.is_file():
        return {}
    try:
        named = json.loads(path.read_text(encoding="utf-8"))
        # Some files name a category by its number among COCO's: the first is the person.
        return {
            stem: tuple(PERSON if kind == "yolo0" else str(kind) for kind in kinds)
            for stem, kinds in named.items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise DataError(f"{path} does not list the kinds of each picture") from error


def read_still(paths: StillPaths) -> Still:
    """Read the picture with its mask's instance labels (a 0/255 mask holds one, labeled 255)."""
    still = Still(read_rgb(paths.image), read_labels(paths.mask), paths.kinds)
    if still.image.shape[:2] != still.labels.shape:
        raise DataError(
            f"{paths.mask} is {still.labels.shape} but its picture is {still.image.shape[:2]}"
        )
    return still


def read_rgb(path: Path) -> Pixels:
    """Return the picture at `path`, uint8 (H, W, 3) RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"cannot read the picture {path}")
    return np.asarray(image, dtype=np.uint8)


def read_labels(path: Path) -> Pixels:
    """Return the indices of a palette, gray or 1-bit PNG, uint8 (H, W); 1-bit gives 0 and 1.

    An RGB one is read where its meaning is clear: gray, or in the colors of DAVIS.
    """
    # OpenCV turns a palette into colors and loses the indices; Pillow keeps them.
    try:
        with Image.open(path) as image:
            if image.mode in {"1", "L", "P"}:
                return np.array(image, dtype=np.uint8)
        return read_label_map(path.read_bytes(), ANY_SIZE)
    except (PixelError, MaskError) as error:
        raise DataError(f"{path} is no mask: {error}") from error
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise DataError(f"cannot read the mask {path}") from error


def pick_object(labels: Pixels, rng: np.random.Generator, *, min_share: float) -> Pixels | None:
    """Return one instance as uint8 {0, 1} (H, W), larger ones somewhat likelier, or None.

    Only instances of at least `min_share` of the picture count. Now and then an instance is
    united with one that touches it, as DAVIS 2016 unites rider and horse.
    """
    picked = pick_instance(Still(labels, labels), rng, min_share=min_share)
    return None if picked is None else picked.mask


def pick_instance(
    still: Still, rng: np.random.Generator, *, min_share: float, kind: str | None = None
) -> Instance | None:
    """Return what `pick_object` does, with the kind; of that kind only, where one is given."""
    labels = still.labels
    areas = np.bincount(labels.reshape(-1), minlength=256).astype(np.float64) / labels.size
    areas[0] = 0.0
    areas[areas < min_share] = 0.0
    if kind is not None:
        areas[[label for label in range(1, 256) if still.find_kind(label) != kind]] = 0.0
    areas[_find_backdrops(still, areas)] = 0.0
    candidates = np.flatnonzero(areas)
    if not candidates.size:
        return None
    weights = np.sqrt(areas[candidates])
    chosen = int(rng.choice(candidates, p=weights / weights.sum()))
    mask = (labels == chosen).astype(np.uint8)
    if kind is None and rng.random() < 0.2:
        mask = _unite_with_neighbor(mask, labels)
    return Instance(mask, still.find_kind(chosen))


def pick_largest(still: Still) -> Pixels | None:
    """Return the largest instance as uint8 {0, 1} (H, W), or None; a backdrop is none."""
    areas = np.bincount(still.labels.reshape(-1), minlength=256) / still.labels.size
    areas[0] = 0.0
    areas[areas < MIN_INSTANCE] = 0.0
    areas[_find_backdrops(still, areas)] = 0.0
    return (still.labels == areas.argmax()).astype(np.uint8) if areas.any() else None


def label_others(
    still: Still, target: Pixels, rng: np.random.Generator, *, most: int
) -> Pixels | None:
    """Return up to `most` instances beside the target (H, W) as labels 2, 3, ..., or None."""
    areas = np.bincount(still.labels[target == 0], minlength=256) / still.labels.size
    areas[0] = 0.0
    areas[areas < MIN_INSTANCE] = 0.0
    areas[_find_backdrops(still, areas)] = 0.0
    found = rng.permutation(np.flatnonzero(areas))[:most]
    if not found.size:
        return None
    labels = np.zeros_like(still.labels)
    for label, instance in enumerate(found, start=2):
        labels[(still.labels == instance) & (target == 0)] = label
    return labels


def keep_shown(masks: Pixels, *, least: float) -> Pixels:
    """Return labels (F, H, W), as 1, 2, ..., of objects with a share of `least` in frame 0.

    The others become background.
    """
    areas = np.bincount(masks[0].ravel(), minlength=256) / masks[0].size
    kept = [label for label in range(1, 256) if areas[label] >= least]
    table = np.zeros(256, np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return np.asarray(table[masks], np.uint8)


def _find_backdrops(still: Still, areas: NDArray[np.float64]) -> list[int]:
    """Return labels of what lies behind or under everything, such as a table: large, on 3 borders.

    A person who fills the picture is none.
    """
    labels = still.labels
    edges = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    touched = sum(
        (np.bincount(edge, minlength=256) > 0.1 * edge.size).astype(int) for edge in edges
    )
    large = (areas > _HUGE) | ((areas > _LARGE) & (touched >= 3))
    return [int(each) for each in np.flatnonzero(large) if still.find_kind(int(each)) != PERSON]


def _unite_with_neighbor(mask: Pixels, labels: Pixels) -> Pixels:
    """Return `mask` with the instance that shares the longest border with it, if there is one."""
    near = cv2.dilate(mask, np.ones((5, 5), np.uint8)) > mask
    counts = np.bincount(labels[near], minlength=256)
    counts[0] = 0
    neighbor = int(counts.argmax())
    if counts[neighbor] < 20:
        return mask
    return np.asarray(mask | (labels == neighbor), dtype=np.uint8)
