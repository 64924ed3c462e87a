"""Still pictures in the layouts of ECSSD, MSRA10K, COCO and PASCAL VOC."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model.core.encoding import decode_polygons, decode_rle
from model.core.masks import MaskError, settle_ignored
from model.data.errors import DataError
from model.data.static import Still, StillPaths, read_rgb, read_still
from model.data.video import read_names

MOST_INSTANCES = 254


class LabeledStill(Protocol):
    """A picture with labels that is still on the disk."""

    def read(self) -> Still: ...


@dataclass(frozen=True, slots=True)
class FileStill:
    """A picture and its mask in two files; 255 marks pixels that count as nothing (VOC)."""

    paths: StillPaths

    def read(self) -> Still:
        """Return the picture with its labels; raise DataError where a file is broken."""
        still = read_still(self.paths)
        return Still(still.image, settle_ignored(still.labels))


@dataclass(frozen=True, slots=True)
class CocoStill:
    """A picture of COCO with its instances, each as polygons or run lengths."""

    image: Path
    size: tuple[int, int]
    instances: tuple[Any, ...]

    def read(self) -> Still:
        """Return the picture, its instances labeled 1, 2, ....

        Smaller ones lie over larger ones.
        """
        image = read_rgb(self.image)
        if image.shape[:2] != self.size:
            raise DataError(f"{self.image} is {image.shape[:2]}, COCO says {self.size}")
        masks = sorted((self._mask(each) for each in self.instances), key=lambda m: -int(m.sum()))
        labels = np.zeros(self.size, np.uint8)
        for index, mask in enumerate(masks[:MOST_INSTANCES], start=1):
            labels[mask] = index
        return Still(image, labels)

    def _mask(self, instance: Any) -> NDArray[np.bool_]:
        try:
            if isinstance(instance, list):
                return decode_polygons(instance, self.size)
            if isinstance(instance["counts"], str):
                return decode_rle(instance, self.size)
            runs = instance["counts"]  # plain lengths, column by column, background first
            flags = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            return flags.reshape(self.size[::-1]).T
        except (MaskError, TypeError, ValueError, KeyError) as error:
            raise DataError(f"{self.image} has an instance that is no shape") from error


def list_ecssd_stills(root: Path, split: str) -> tuple[FileStill, ...]:
    """Return `images/<id>.jpg` with `ground_truth_mask/<id>.png`; it has no splits."""
    return list_file_stills(root / "images", root / "ground_truth_mask")


def msra10k_stills(root: Path, split: str) -> tuple[FileStill, ...]:
    """Return `Imgs/<id>.jpg` beside `Imgs/<id>.png`; it has no splits."""
    folder = root / "MSRA10K_Imgs_GT" / "Imgs"
    folder = folder if folder.is_dir() else root / "Imgs"
    return list_file_stills(folder, folder)


def list_voc_stills(root: Path, split: str) -> tuple[FileStill, ...]:
    """Return `JPEGImages` with `SegmentationObject`, by `ImageSets/Segmentation/<split>.txt`."""
    names = read_names(root / "ImageSets" / "Segmentation" / f"{split}.txt")
    pairs = [
        StillPaths(root / "JPEGImages" / f"{name}.jpg", root / "SegmentationObject" / f"{name}.png")
        for name in names
    ]
    for path in (path for pair in pairs for path in (pair.image, pair.mask)):
        if not path.is_file():
            raise DataError(f"{path} is listed but missing")
    return tuple(FileStill(pair) for pair in pairs)


def list_file_stills(images: Path, masks: Path) -> tuple[FileStill, ...]:
    """Return every `<id>.jpg` with its mask `<id>.png`; a picture without one is a DataError."""
    found = sorted(path for path in images.glob("*.jpg") if not path.name.startswith("."))
    pairs = [StillPaths(path, masks / f"{path.stem}.png") for path in found]
    if not pairs:
        raise DataError(f"no pictures (*.jpg) in {images}")
    for pair in pairs:
        if not pair.mask.is_file():
            raise DataError(f"{pair.image} has no mask {pair.mask}")
    return tuple(FileStill(pair) for pair in pairs)


def coco_stills(root: Path, split: str) -> tuple[CocoStill, ...]:
    """Return `<split>2017/*.jpg` with `annotations/instances_<split>2017.json`; no crowds."""
    path = root / "annotations" / f"instances_{split}2017.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        instances: dict[int, list[Any]] = defaultdict(list)
        for each in content["annotations"]:
            if not each.get("iscrowd"):
                instances[each["image_id"]].append(each["segmentation"])
        return tuple(
            CocoStill(
                root / f"{split}2017" / image["file_name"],
                (image["height"], image["width"]),
                tuple(instances[image["id"]]),
            )
            for image in content["images"]
            if image["id"] in instances
        )
    except OSError as error:
        raise DataError(f"cannot read {path}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO file of instances") from error
