"""Tiny data sets in published layouts: drawn pictures in the folders and lists of their authors."""

import json
from pathlib import Path

import numpy as np

from tests.model.data.drawings import HEIGHT, WIDTH, draw_labels, write_jpeg, write_palette

LENGTH = 6


def write_list(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def write_frames(
    images: Path, masks: Path, *, stem: str = "{:05d}", labeled: int = 1, ignored: bool = False
) -> None:
    """LENGTH frames with label maps of two objects (every `labeled`-th frame), 255 in a corner."""
    for index in range(LENGTH):
        write_jpeg(images / f"{stem.format(index)}.jpg", seed=index)
        labels = draw_labels(shift=2 * index)
        labels[labels == 3] = 255 if ignored else 0
        if index % labeled == 0:
            write_palette(masks / f"{stem.format(index)}.png", labels)


def write_davis_2017(root: Path) -> None:
    write_frames(root / "JPEGImages/480p/bike", root / "Annotations/480p/bike")
    write_list(root / "ImageSets/2017/val.txt", "bike")
    write_list(root / "ImageSets/2016/val.txt", "bike")


def write_davis_2016(root: Path) -> None:
    write_frames(root / "JPEGImages/480p/bike", root / "Annotations/480p/bike")
    lines = (
        f"/JPEGImages/480p/bike/{i:05d}.jpg /Annotations/480p/bike/{i:05d}.png"
        for i in range(LENGTH)
    )
    write_list(root / "ImageSets/480p/val.txt", *lines)


def write_youtube_vos(root: Path) -> None:
    folder = root / "val"
    write_frames(folder / "JPEGImages/0a1b", folder / "Annotations/0a1b", labeled=2)
    first = folder / "Annotations/0a1b/00000.png"
    labels = draw_labels()
    write_palette(first, np.where(labels == 1, labels, 0).astype(np.uint8))  # object 2 comes later
    objects = {"1": {"category": "dog"}, "2": {"category": "dog"}}
    text = json.dumps({"videos": {"0a1b": {"objects": objects}}})
    (folder / "meta.json").write_text(text)


def write_vost(root: Path) -> None:
    write_frames(
        root / "JPEGImages/1_cut", root / "Annotations/1_cut", stem="frame{:05d}", ignored=True
    )
    write_list(root / "ImageSets/val.txt", "1_cut")


def write_visor(root: Path) -> None:
    for name in ("P01_01_seq", "P02_01_seq"):
        write_frames(root / "JPEGImages" / name, root / "Annotations" / name)
    write_list(root / "ImageSets/val.txt", "P01_01_seq", "P02_01_seq")
    write_list(root / "ImageSets/val_unseen.txt", "P02_01_seq")


def write_voc(root: Path) -> None:
    write_jpeg(root / "JPEGImages/2007_1.jpg", seed=1)
    labels = draw_labels()
    labels[labels == 3] = 255
    write_palette(root / "SegmentationObject/2007_1.png", labels)
    write_list(root / "ImageSets/Segmentation/train.txt", "2007_1")


def write_ecssd(root: Path) -> None:
    write_jpeg(root / "images/0001.jpg", seed=1)
    labels = (draw_labels() == 1) * np.uint8(255)
    write_palette(root / "ground_truth_mask/0001.png", labels)


def write_msra10k(root: Path) -> None:
    write_jpeg(root / "MSRA10K_Imgs_GT/Imgs/7.jpg", seed=1)
    write_palette(root / "MSRA10K_Imgs_GT/Imgs/7.png", (draw_labels() == 1) * np.uint8(255))


def write_coco(root: Path) -> None:
    """One picture: a polygon, run lengths, and a crowd that does not count."""
    write_jpeg(root / "train2017/000000000009.jpg", seed=1)
    square = [10.0, 10.0, 40.0, 10.0, 40.0, 40.0, 10.0, 40.0]
    inner = np.zeros((HEIGHT, WIDTH), np.uint8)
    inner[20:30, 20:30] = 1
    runs = np.flatnonzero(np.diff(np.concatenate([[0], inner.T.ravel(), [0]])))
    counts = np.diff(np.concatenate([[0], runs, [inner.size]])).tolist()
    sized = {"size": [HEIGHT, WIDTH], "counts": counts}
    annotations = [
        {"image_id": 9, "segmentation": [square], "iscrowd": 0},
        {"image_id": 9, "segmentation": sized, "iscrowd": 0},
        {"image_id": 9, "segmentation": sized, "iscrowd": 1},
    ]
    image = {"id": 9, "file_name": "000000000009.jpg", "height": HEIGHT, "width": WIDTH}
    bare = {**image, "id": 10, "file_name": "unlabeled.jpg"}
    content = {"images": [image, bare], "annotations": annotations}
    write_list(root / "annotations/instances_train2017.json", json.dumps(content))
